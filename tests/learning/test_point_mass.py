"""Every algorithm with every kind of noise learns the toy world from nothing."""

import jax
import jax.numpy as jnp
import pytest

from loomax.agents.rl.parts import build
from loomax.agents.rl.toy import point_mass
from loomax.runtime.mesh import MeshConfig, make_mesh

CASES = {("ppo", "sde"): 70, ("ppo", "noise"): 110, ("grpo", "sde"): 80, ("grpo", "noise"): 140}


@pytest.mark.parametrize(("algorithm", "kind"), CASES)
def test_it_learns(algorithm, kind):
    config = point_mass(algorithm, kind)
    config.validate(1)
    parts = build(config, make_mesh(MeshConfig(), jax.devices()[:1]))
    learner, evaluator = parts.learner, jax.jit(parts.evaluator)

    def success(state):
        keys = jax.random.split(jax.random.key(99), 512)
        params = (state.trained, state.frozen)
        played = evaluator(params, keys, jnp.int32(0), key=jax.random.key(98))
        return float(played.success.mean())

    params = parts.init_params(key=jax.random.key(0))
    state = jax.jit(learner.init)(*params, key=jax.random.key(1))
    program = jax.jit(learner)
    before, rewards = success(state), []
    for _ in range(CASES[algorithm, kind]):
        state, metrics = program(state, key=jax.random.key(2))
        rewards.append(float(metrics["reward"]))
    after = success(state)
    assert before < 0.2
    assert after > 0.9, f"success went from {before} to {after}"
    assert sum(rewards[-5:]) / 5 > rewards[0] + 1.0
