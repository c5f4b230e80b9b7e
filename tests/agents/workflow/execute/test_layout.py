"""Where arrays lie that look like items and are none, and stages that divide their own work."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.execute.layout import layout_of, mesh_of
from loomax.agents.workflow.execute.record import record
from loomax.agents.workflow.plan.tree import Run
from loomax.agents.workflow.stage import Stage, loop
from loomax.runtime.axes import FSDP, REPLICA

BATCH = 8
# As many rows as there are items.
PARAMS = {"w": jnp.ones((BATCH, 3)), "b": jnp.ones((3,))}
ITEMS = jnp.ones((BATCH, 3))


def learn(params, x):
    return jax.tree.map(lambda p: p + x.sum(), params), x * 2


update = Stage("update", learn, resident=(0,), batch_axis=None)


def places(program):
    recorded = record(program, PARAMS, ITEMS)
    layout, mesh = layout_of(recorded, BATCH), mesh_of(jax.devices()[:2])
    spec = lambda tree: jax.tree.map(lambda var: layout.sharding(var, mesh).spec, tree)  # noqa: E731
    return spec(recorded.inputs), spec(recorded.output)


def test_new_parameters_lie_as_the_old_ones():
    inputs, output = places(update)
    assert inputs == output
    assert output == ({"w": P(), "b": P()}, P((REPLICA, FSDP)))


def test_parameters_that_a_loop_carries_too():
    def rounds(params, x):
        return loop(lambda carry: update(*carry), (params, x), 2)

    inputs, output = places(rounds)
    assert output == inputs
    assert output[0] == {"w": P(), "b": P()}


def test_a_stage_is_told_the_mesh_that_it_is_placed_on():
    seen = []

    def on_mesh(mesh):
        seen.append(mesh.size)
        part = P((REPLICA, FSDP))

        # Each device counts from its own first item.
        def local(x):
            return x + jnp.arange(len(x))

        return jax.shard_map(local, mesh=mesh, in_specs=part, out_specs=part)

    stage = Stage("count", lambda x: x + jnp.arange(len(x)), on_mesh=on_mesh)
    x = jnp.zeros(BATCH)
    np.testing.assert_array_equal(stage(x), np.arange(BATCH))
    plan = Run(("count",), 4, BATCH, 1.0, 0, 0)
    np.testing.assert_array_equal(Executor(stage, plan, x)(x), np.tile([0, 1], 4))
    assert set(seen) == {4}


def test_a_loop_on_a_mesh():
    part = P((REPLICA, FSDP))

    def on_mesh(mesh):
        return jax.shard_map(lambda x: x + len(x), mesh=mesh, in_specs=part, out_specs=part)

    stage = Stage("grow", lambda x: x + len(x), on_mesh=on_mesh)
    x = jnp.zeros(BATCH)
    program = lambda x: loop(stage, x, 3)  # noqa: E731
    found = Executor(program, Run(("grow",), 2, BATCH, 1.0, 0, 0), x)(x)
    np.testing.assert_array_equal(found, np.full(BATCH, 3 * BATCH / 2))
