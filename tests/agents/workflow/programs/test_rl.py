"""The main job's iteration as a workflow: what the learner does in one program."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.agents.rl.parts import build
from loomax.agents.rl.toy import point_mass
from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.plan.tree import Run, Shared
from loomax.agents.workflow.programs.rl import apart, make_iteration
from loomax.agents.workflow.trace import trace
from loomax.runtime.mesh import MeshConfig, make_mesh


@pytest.mark.slow  # compiles the learner, and the same in stages
def test_the_iteration_is_the_learners():
    config = point_mass()
    rl = config.rl
    rollout = replace(rl.rollout, envs=16, calls=4)
    optimiser = replace(rl.optimiser, epochs=1, minibatches=2, critic_warmup=0)
    rl = replace(rl, rollout=rollout, optimiser=optimiser)
    config = replace(config, policy=MLPPolicyConfig(width=8, horizon=2), rl=rl)
    parts = build(config, make_mesh(MeshConfig(), jax.devices()[:1]))
    state = jax.jit(parts.learner.init)(
        *parts.init_params(key=jax.random.key(0)), key=jax.random.key(1)
    )
    wanted, metrics = jax.jit(parts.learner)(state, key=jax.random.key(2))

    iteration = make_iteration(parts)
    inputs = (*apart(state), jax.random.key(2))
    workflow = trace(iteration, *inputs, batch=16)
    assert [call.name for call in workflow.calls] == ["rollout", "returns", "update"]

    def run(*names):
        return Run(names, 1, 16, 1.0, 0, 0)

    plan = Shared(run("rollout"), run("returns", "update"), False, 0.0, 0.0)
    found, worlds, told = Executor(iteration, plan, *inputs)(*inputs)
    wanted = (*apart(wanted), metrics)
    for a, b in zip(jax.tree.leaves((found, worlds, told)), jax.tree.leaves(wanted), strict=True):
        if jax.numpy.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
