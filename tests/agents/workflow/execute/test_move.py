"""Arrays between groups of devices, and in microbatches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from loomax.agents.workflow.execute.layout import mesh_of
from loomax.agents.workflow.execute.move import move
from loomax.agents.workflow.execute.split import merge, split
from loomax.agents.workflow.execute.swap import on_host, to_host


def place(first, count, spec):
    return NamedSharding(mesh_of(jax.devices()[first : first + count]), PartitionSpec(*spec))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((0, 4, ("fsdp",)), (4, 4, ("fsdp",))),
        ((0, 4, ("fsdp",)), (4, 2, ("fsdp",))),
        ((0, 2, ("fsdp",)), (2, 4, ("fsdp",))),
        ((0, 3, ("fsdp",)), (3, 4, ("fsdp",))),
        ((0, 4, ("fsdp",)), (2, 3, ("fsdp",))),
        ((0, 4, ("fsdp",)), (4, 2, ())),
        ((0, 2, ()), (2, 4, ("fsdp",))),
        ((0, 4, ("fsdp",)), (0, 4, ())),
        ((0, 4, ("fsdp",)), (4, 2, (None, "fsdp"))),
    ],
)
def test_moves_without_the_host(source, target):
    x = np.arange(48.0, dtype=np.float32).reshape(12, 4)
    target = place(*target)
    given = jax.device_put(x, place(*source))
    found = move(given, target)
    # An array keeps the copy that it once made in host memory.
    assert given._npy_value is None
    assert found.sharding.is_equivalent_to(target, 2)
    np.testing.assert_array_equal(found, x)
    assert move(found, target) is found or not found.is_deleted()


def test_typed_keys_move():
    keys = jax.random.split(jax.random.key(0), 12)
    found = move(jax.device_put(keys, place(0, 4, ("fsdp",))), place(4, 3, ("fsdp",)))
    wanted = jax.random.key_data(jax.random.clone(keys))
    np.testing.assert_array_equal(jax.random.key_data(found), wanted)


def test_there_and_back_again():
    x = jax.device_put(np.arange(8.0, dtype=np.float32), place(0, 4, ("fsdp",)))
    host = to_host(x, free=True)
    assert x.is_deleted() and on_host(host) and to_host(host, free=True) is host
    back = move(host, place(2, 2, ("fsdp",)))
    assert not on_host(back)
    np.testing.assert_array_equal(back, np.arange(8.0))


@pytest.mark.parametrize("axis", [0, 1])
def test_microbatches(axis):
    x = np.arange(96.0, dtype=np.float32).reshape(12, 8)
    pieces = split(jnp.asarray(x), axis, 4)
    for i, piece in enumerate(pieces):
        np.testing.assert_array_equal(piece, x[i::4] if axis == 0 else x[:, i::4])
    np.testing.assert_array_equal(merge(pieces, axis), x)
