"""Shares of rows, and positions in the data of other processes."""

import jax
import pytest

from loomax.agents.pretrain.processes import gather, mine, number_shares, row_share
from loomax.runtime.mesh import MeshConfig, batch_sharding, make_mesh


def test_processes_with_rows_of_their_own_have_a_share_each():
    owned = {0: {0, 4}, 1: {8, 12}, 2: {16, 20}}
    assert [number_shares(owned, process) for process in owned] == [(0, 3), (1, 3), (2, 3)]


def test_rows_of_a_process_need_not_follow_one_another():
    owned = {0: {4, 12}, 1: {0, 8}}
    assert [number_shares(owned, process) for process in owned] == [(1, 2), (0, 2)]


def test_processes_that_split_the_same_rows_have_one_share():
    owned = {0: {0}, 1: {0}, 2: {8}, 3: {8}}
    assert [number_shares(owned, process) for process in owned] == [(0, 2)] * 2 + [(1, 2)] * 2


def test_rows_in_common_with_several_are_refused():
    with pytest.raises(ValueError, match="some of their rows in common .* change the mesh"):
        number_shares({0: {0, 4}, 1: {4, 8}}, 0)


def test_one_process_has_all_rows():
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=4), jax.devices())
    assert row_share(batch_sharding(mesh), 16) == (0, 1)


def test_positions_of_another_number_of_processes_are_refused():
    assert mine(gather({"next_index": 3})) == {"next_index": 3}
    with pytest.raises(ValueError, match="written by 2 processes, .* go on with as many, not 1"):
        mine([{}, {}])
