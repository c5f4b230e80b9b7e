"""Meshes, logical axes and automatic shardings."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from loomax.runtime.mesh import (
    LogicalAxes,
    MeshConfig,
    batch_sharding,
    fsdp_shardings,
    logical_spec,
    make_mesh,
    replicated,
)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_the_free_axis_takes_the_rest(replica, fsdp, context, tensor):
    devices = replica * fsdp * context * tensor
    sizes = (replica, fsdp, context, tensor)
    assert MeshConfig(replica, -1, tensor, context).sizes(devices) == sizes
    assert MeshConfig(-1, fsdp, tensor, context).sizes(devices) == sizes
    assert MeshConfig(replica, fsdp, tensor, -1).sizes(devices) == sizes


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MeshConfig(replica=0), "mesh.replica is 0"),
        (MeshConfig(fsdp=-2), "mesh.fsdp is -2"),
        (MeshConfig(replica=-1, fsdp=-1), "mesh.replica and mesh.fsdp are both -1"),
        (MeshConfig(replica=3), "does not fit 8 devices: .* product divides 8"),
        (MeshConfig(2, 2, 1), "does not fit 8 devices: .* product is 8"),
        (MeshConfig(fsdp=3), r"a mesh of 1 x 3 x 1 \(replica x fsdp x tensor\) does not fit"),
        (
            MeshConfig(context=3),
            r"a mesh of 1 x -1 x 3 x 1 \(replica x fsdp x context x tensor\) does not fit",
        ),
        (MeshConfig(context=0), "mesh.context is 0"),
        (MeshConfig(context=-1), "mesh.fsdp and mesh.context are both -1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        make_mesh(config)


def test_mesh_order_and_axis_types():
    mesh = make_mesh(MeshConfig(replica=2, context=2, tensor=2))
    sizes = {"replica": 2, "fsdp": 1, "context": 2, "tensor": 2}
    assert list(mesh.shape.items()) == list(sizes.items())
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert [device.id for device in mesh.devices.flat] == list(range(8))


def test_batch_goes_over_replica_and_fsdp():
    mesh = make_mesh(MeshConfig(replica=2, fsdp=2, tensor=2))
    x = jax.device_put(jnp.arange(8.0), batch_sharding(mesh))
    assert {shard.data.shape for shard in x.addressable_shards} == {(2,)}
    assert jax.device_put(x, replicated(mesh)).is_fully_replicated


def test_large_leaves_are_sharded_on_their_longest_axis():
    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    shapes = {
        "large": jax.ShapeDtypeStruct((6, 2048, 512), jnp.float32),
        "odd": jax.ShapeDtypeStruct((4099, 257), jnp.float32),
        "second": jax.ShapeDtypeStruct((4099, 1024), jnp.float32),
        "small": jax.ShapeDtypeStruct((1024,), jnp.float32),
        "scalar": jax.ShapeDtypeStruct((), jnp.int32),
    }
    specs = jax.tree.map(lambda sharding: sharding.spec, fsdp_shardings(shapes, mesh))
    assert specs == {
        "large": PartitionSpec(None, "fsdp"),
        "odd": PartitionSpec(),
        "second": PartitionSpec(None, "fsdp"),
        "small": PartitionSpec(),
        "scalar": PartitionSpec(),
    }
    everything = fsdp_shardings(shapes, mesh, min_bytes=0)
    assert everything["small"].spec == PartitionSpec("fsdp")
    alone = make_mesh(MeshConfig(), jax.devices()[:1])
    assert fsdp_shardings(shapes, alone)["large"].spec == PartitionSpec()


def test_logical_names_become_mesh_axes():
    axes = LogicalAxes()
    assert logical_spec(axes, "batch", "length") == PartitionSpec(("replica", "fsdp"), None)
    assert logical_spec(axes, "embed", "mlp") == PartitionSpec("fsdp", "tensor")


def test_logical_names_are_checked():
    with pytest.raises(ValueError, match="unknown logical axis 'head': did you mean 'heads'"):
        logical_spec(LogicalAxes(), "head")
    with pytest.raises(ValueError, match="'batch' and 'embed' of one array .* 'fsdp'"):
        logical_spec(LogicalAxes(), "batch", "embed")
