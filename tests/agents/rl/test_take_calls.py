"""Picking a minibatch moves nothing between devices."""

import re

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from loomax.agents.rl.update import take_calls
from loomax.runtime.mesh import FSDP, MeshConfig, make_mesh

CALLS, ENVS = 6, 8


def test_picking_stays_on_each_device():
    mesh = make_mesh(MeshConfig())
    where = NamedSharding(mesh, P(None, FSDP))
    data = jax.ShapeDtypeStruct((CALLS, ENVS, 3), jnp.float32, sharding=where)
    order = jax.ShapeDtypeStruct((2, ENVS), jnp.int32, sharding=where)
    compiled = jax.jit(take_calls).lower(data, order).compile()
    assert not re.search("all-gather|all-to-all|all-reduce|collective", compiled.as_text())
    assert compiled.output_shardings.is_equivalent_to(NamedSharding(mesh, P(FSDP)), 2)
