"""The iteration: the same on any number of devices; warm-up, step size, groups."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.rl.optimiser import ACTOR, CRITIC, labels
from loomax.runtime.mesh import replicated


def iterate(parts, count: int = 2):
    """The parameters at the start, and (state, metrics) after each iteration, on the host."""
    learner = parts.learner
    params = parts.init_params(key=jax.random.key(0))
    start = jax.device_get(params[0])
    shardings = parts.state_shardings(jax.eval_shape(learner.init, *params, key=jax.random.key(1)))
    state = jax.jit(learner.init, out_shardings=shardings)(*params, key=jax.random.key(1))
    program = jax.jit(
        learner,
        donate_argnames=("state",),
        out_shardings=(shardings, replicated(parts.mesh)),
    )
    seen = []
    for _ in range(count):
        state, metrics = program(state, key=jax.random.key(2))
        spread = state.obs["proprio"].sharding.num_devices
        seen.append(jax.device_get((state, metrics)))
    return start, seen, spread


def tune(config, **optimiser):
    rl = config.rl
    return replace(config, rl=replace(rl, optimiser=replace(rl.optimiser, **optimiser)))


def parts_named(params, name: str) -> list:
    """The actor's or the critic's leaves."""
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(labels(params)), strict=True)
    found = [leaf for leaf, label in pairs if label == name]
    assert found
    return found


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def ppo(small, parts_of):
    """Two iterations of PPO on 1, 2 and 8 devices: one of warm-up, one with a far-off KL target."""
    config = tune(small(), critic_warmup=1, kl_target=1e6)
    return {devices: iterate(parts_of(config, devices)) for devices in (1, 2, 8)}


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_change_nothing(ppo, devices):
    (_, one, _), (_, many, spread) = ppo[1], ppo[devices]
    assert spread == devices
    for (state, metrics), (wanted, numbers) in zip(many, one, strict=True):
        for (path, leaf), twin in zip(
            jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(wanted), strict=True
        ):
            np.testing.assert_allclose(
                leaf, twin, rtol=1e-4, atol=2e-5, err_msg=jax.tree_util.keystr(path)
            )
        for name, value in metrics.items():
            np.testing.assert_allclose(value, numbers[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_warm_up_moves_the_critic_alone(ppo):
    start, ((warm, _), (after, _)), _ = ppo[1]
    assert same(parts_named(warm.trained, ACTOR), parts_named(start, ACTOR))
    assert not same(parts_named(warm.trained, CRITIC), parts_named(start, CRITIC))
    moved = zip(parts_named(after.trained, ACTOR), parts_named(start, ACTOR), strict=True)
    # The noise head of Flow-Noise is not used by Flow-SDE; all else of the actor moves.
    assert sum(not np.array_equal(a, b) for a, b in moved) >= 6


def test_the_step_size_follows_the_divergence_after_warm_up(ppo):
    _, ((_, warm), (_, after)), _ = ppo[1]
    assert warm["lr_scale"] == 1.0
    assert after["lr_scale"] == pytest.approx(1.5)
    assert after["approx_kl"] > 0


def test_steps_and_experience_are_counted(ppo):
    _, ((first, metrics), (second, _)), _ = ppo[1]
    assert (first.step, second.step) == (1, 2)
    # 16 environments, 4 calls of 2 steps, less what was held still.
    assert 64 < metrics["env_steps"] <= 128
    assert all(np.isfinite(value) for value in metrics.values())


def test_averaging_lags_behind(small, parts_of):
    config = tune(small(), critic_warmup=0, ema=0.75)
    start, ((state, _),), _ = iterate(parts_of(config), 1)
    for a, b, c in zip(*map(jax.tree.leaves, (state.average, start, state.trained)), strict=True):
        np.testing.assert_allclose(a, 0.75 * b + 0.25 * c, atol=1e-6)


@pytest.fixture(scope="module")
def grpo(small, parts_of):
    return parts_of(small("grpo"))


def test_groups_share_their_start_and_nothing_else(grpo):
    learner = grpo.learner
    params = grpo.init_params(key=jax.random.key(0))

    def program(key):
        reset_key, act_key = jax.random.split(key)
        _, obs = grpo.venv.reset(learner.episode_keys(key=reset_key))
        return obs["proprio"], learner.actor.act(params, obs, key=act_key).chain[:, -1]

    proprio, actions = jax.jit(program)(jax.random.key(3))
    groups = np.asarray(proprio).reshape(4, 4, 4)
    np.testing.assert_array_equal(groups, np.repeat(groups[:, :1], 4, axis=1))
    assert len(np.unique(groups[:, 0], axis=0)) == 4
    assert len(np.unique(np.asarray(actions).reshape(16, -1), axis=0)) == 16


def test_grpo_moves_the_actor_alone(grpo):
    start, ((state, metrics),), _ = iterate(grpo, 1)
    assert not same(parts_named(state.trained, ACTOR), parts_named(start, ACTOR))
    assert same(parts_named(state.trained, CRITIC), parts_named(start, CRITIC))
    assert metrics["valid_fraction"] < 1 and metrics["approx_kl"] > 0
    assert "value_loss" not in metrics


def test_filtered_groups_teach_nothing(small, parts_of):
    config = small("grpo")
    group = replace(config.rl.group, filter_low=100.0)
    parts = parts_of(replace(config, rl=replace(config.rl, group=group)))
    start, ((state, metrics),), _ = iterate(parts, 1)
    assert same(jax.tree.leaves(state.trained), jax.tree.leaves(start))
    assert metrics["grad_norm"] == 0 and jnp.isfinite(metrics["loss"])
