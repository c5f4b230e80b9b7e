"""Shares of rows, and positions in the data of other processes."""

import jax
import pytest

from loomax.agents.pretrain.processes import gather, merge, number_shares, own_rows, row_share
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


def test_one_process_owns_every_row_once():
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=4), jax.devices())
    assert own_rows(batch_sharding(mesh), 16) == list(range(16))


def test_states_of_all_processes_become_one():
    assert merge(gather({"0": {"at": 3}})) == {"0": {"at": 3}}
    assert merge([{"0": 1}, {"0": 1, "1": 2}]) == {"0": 1, "1": 2}
