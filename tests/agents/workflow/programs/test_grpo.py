"""GRPO on a tiny model: the same by plan and by call, and it learns."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.plan.tree import Chunks, Run, Space
from loomax.agents.workflow.programs.grpo import make_iteration
from loomax.agents.workflow.trace import trace
from loomax.models.lm import create
from loomax.models.lm.presets import yoco_small

MODEL = replace(
    yoco_small("sliding_window"),
    vocab=8, width=16, mlp=16, heads=2, kv_heads=1, head_dim=8,
    self_layers=1, cross_layers=1, mixer_heads=2, mixer_head_dim=8, window=8,
)  # fmt: skip
ROWS, NEW, GROUP = 32, 3, 4


def share_of_twos(prompts, tokens):
    return (tokens == 2).mean(1)


@pytest.fixture(scope="module")
def inputs():
    params = create(MODEL, key=jax.random.key(0))
    prompts = jnp.repeat(jnp.arange(ROWS // GROUP)[:, None] % 8, GROUP, 0) + jnp.zeros((1, 2), int)
    return params, optax.adam(1e-3).init(params), prompts.astype(jnp.int32)


def test_a_pipeline_learns_what_is_rewarded(inputs):
    iteration = make_iteration(MODEL, share_of_twos, new=NEW, group=GROUP, lr=0.03)
    params, moments, prompts = inputs

    def keys(index):
        return jax.random.split(jax.random.key(index), ROWS)

    workflow = trace(iteration, params, moments, prompts, keys(0))
    assert [call.name for call in workflow.calls] == ["generate", "reward", "update"]
    assert workflow.batch == ROWS

    def run(name, devices, batch):
        return Run((name,), devices, batch, 1.0, 0, 0)

    stages = Space(run("generate", 2, 16), run("reward", 1, 16), 0.0, False)
    plan = Space(Chunks(stages, 2), run("update", 1, ROWS), 0.0, False)
    execute = Executor(iteration, plan, params, moments, prompts, keys(0))
    planned = execute(params, moments, prompts, keys(0))
    called = jax.jit(iteration)(params, moments, prompts, keys(0))
    # Sums over rows are taken in another order.
    for a, b in zip(jax.tree.leaves(planned), jax.tree.leaves(called), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    rewards = []
    for index in range(20):
        params, moments, reward = execute(params, moments, prompts, keys(index))
        rewards.append(float(reward))
    # By chance one token in eight.
    assert np.mean(rewards[:2]) < 0.4 and np.mean(rewards[-2:]) > 0.8
