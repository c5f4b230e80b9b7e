"""An iteration as a whole: order of minibatches, divergence, reference, sign, clipping, inputs."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from loomax.agents.rl.config import DemonstrationConfig, FitConfig, OptimiserConfig
from loomax.agents.rl.demos import Demonstrations
from loomax.agents.rl.estimates import estimate
from loomax.agents.rl.fit import optimiser
from loomax.agents.rl.iteration import Learner
from loomax.agents.rl.objective import likelihood
from loomax.agents.rl.optimiser import make_optimiser
from loomax.agents.rl.policy_config import PolicyConfig
from loomax.agents.rl.sft import flow_matching_loss
from loomax.agents.rl.stages import Stages
from loomax.agents.rl.vla_policy import make_vla_policy
from loomax.envs.point_mass import PointMass
from loomax.envs.point_mass_config import PointMassConfig
from loomax.models.flow_vla import config as models
from loomax.models.flow_vla.sampler_config import SamplerConfig
from tests.agents.rl.test_iteration import iterate, same, tune

HEARD = []


@dataclass(frozen=True)
class Listening(Learner):
    """Tells the order of every minibatch."""

    def minibatch(self, carry, data, order, state, actor_scale):
        jax.debug.callback(HEARD.append, order, ordered=True)
        return super().minibatch(carry, data, order, state, actor_scale)


@pytest.fixture(scope="module")
def learnt(small, parts_of):
    """Orders of two iterations; of the first also estimates and log-probabilities of its chains."""
    config = tune(small(), epochs=3, critic_warmup=0, lr=1e-4)
    parts = parts_of(config)
    learner = Listening(parts.actor, config.rl)
    params = parts.init_params(key=jax.random.key(0))

    def program(params, key):
        start_key, act_key, one_key, two_key = jax.random.split(key, 4)
        state = learner.init(*params, key=start_key)
        play = partial(parts.actor.rollout, params, calls=4, auto_reset=True, key=act_key)
        *_, steps = play(state.env_state, state.obs)
        estimates = estimate(config.rl, steps)
        after, metrics = learner.learn(state, steps, estimates, key=one_key)
        learner.learn(state, steps, estimates, key=two_key)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)
        now = likelihood(config.rl, parts.policy, (after.trained, {}), flat.source, flat)
        return steps, estimates, now.log_prob.reshape(steps.log_prob.shape), metrics

    HEARD.clear()
    found = jax.device_get(jax.jit(program)(params, jax.random.key(3)))
    jax.effects_barrier()
    return np.array(HEARD), *found


def test_every_epoch_reads_every_call_once_in_an_order_of_its_own(learnt):
    orders = learnt[0].reshape(2, 3, 4, 16)
    np.testing.assert_array_equal(np.sort(orders, axis=2), np.arange(4)[:, None] + 0 * orders)
    flat = orders.reshape(6, -1)
    assert len(np.unique(flat, axis=0)) == 6
    # Environments are shuffled apart from each other.
    assert len(np.unique(orders[0, 0].T, axis=0)) > 1


def test_what_went_well_becomes_likelier(learnt):
    _, steps, estimates, now, _ = learnt
    moved = (now - steps.log_prob).sum((-2, -1))
    gain = (estimates.advantage * moved * estimates.policy_weight).sum()
    assert gain > 0 and np.abs(moved).max() > 1e-4


@pytest.fixture(scope="module")
def one_step(small, parts_of):
    """Two iterations of a single optimiser step each, with a reference and a far-off target."""
    config = tune(
        small(), epochs=1, minibatches=1, critic_warmup=0, kl_target=1e-6, lr=1e-2, ema=0.5
    )
    loss = replace(config.rl.loss, kl_coef=0.1)
    return iterate(parts_of(replace(config, rl=replace(config.rl, loss=loss))))


def test_the_divergence_is_that_after_the_last_step(one_step):
    _, ((_, first), (_, second)), _ = one_step
    # A step of 0.01 moves the policy far: the rate falls, where one that looks before climbs.
    assert first["approx_kl"] > 1e-3 and second["approx_kl"] > 1e-3
    assert first["lr_scale"] == pytest.approx(1 / 1.5)
    assert second["lr_scale"] == pytest.approx(1 / 1.5**2)


def test_the_reference_is_what_the_run_began_with(one_step):
    start, ((first, before), (second, after)), _ = one_step
    for state in (first, second):
        assert same(jax.tree.leaves(state.reference), jax.tree.leaves(start))
    # Nothing has moved at the first step; at the second the policy has left its reference.
    assert before["ref_kl"] == pytest.approx(0, abs=1e-9) and after["ref_kl"] > 1e-3


def adam(rows, lr, b2, clip):
    """Parameters after Adam (b1 0.9) on gradients clipped by their norm, from zero, float64."""
    m = v = x = np.zeros(rows.shape[1])
    for step, row in enumerate(rows, start=1):
        row = row * min(1.0, clip / np.linalg.norm(row))
        m, v = 0.9 * m + 0.1 * row, b2 * v + (1 - b2) * row**2
        rate = lr(step - 1) if callable(lr) else lr
        x = x - rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - b2**step)) + 1e-8)
    return x


# A quiet gradient between loud ones: without clipping it would be lost.
ROWS = np.array([[0.3, -0.2, 0.1], [400.0, 300.0, -100.0], [0.1, 0.2, 0.3]])


def followed(tx, params, grads):
    state = tx.init(params)
    for each in grads:
        updates, state = tx.update(each, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_actor_and_critic_are_clipped_each_by_its_own_norm():
    config = OptimiserConfig(lr=1e-2, critic_lr=1e-1, b2=0.9, clip_norm=0.5)
    grads = [{"enter": jnp.asarray(row), "critic": jnp.asarray(row[::-1])} for row in 1.0 * ROWS]
    found = followed(make_optimiser(config), jax.tree.map(jnp.zeros_like, grads[0]), grads)
    np.testing.assert_allclose(found["enter"], adam(ROWS, 1e-2, 0.9, 0.5), rtol=1e-4)
    np.testing.assert_allclose(found["critic"], adam(ROWS[:, ::-1], 1e-1, 0.9, 0.5), rtol=1e-4)


def test_supervised_steps_are_clipped_and_warmed_up():
    config = FitConfig(steps=40, lr=1e-2, b2=0.9, clip_norm=0.5)

    def schedule(step):
        if step < 2:
            return 1e-2 * step / 2
        return 1e-2 * (0.02 + 0.98 * (1 + np.cos(np.pi * (step - 2) / 38)) / 2)

    rows = np.concatenate([ROWS, ROWS])
    found = followed(optimiser(config), jnp.zeros(3), list(jnp.asarray(rows)))
    np.testing.assert_allclose(found, adam(rows, schedule, 0.9, 0.5), rtol=1e-4)


class Late:
    """A velocity that is wrong by t, so that the loss is the mean of t squared."""

    horizon, action_dim, critic = 1, 1, "none"

    def encode(self, params, obs):
        raise AssertionError

    def velocity(self, params, context, x, t):
        return x / t[:, None, None] + t[:, None, None], x

    def noise_std(self, params, hidden):
        raise AssertionError

    def value(self, params, context, privileged, hidden):
        raise AssertionError


def test_fine_tuning_draws_more_noisy_times_than_clean_ones(key):
    count = 20_000
    zeros = jnp.zeros((count, 1, 1))
    loss = flow_matching_loss(Late(), {}, None, zeros, jnp.ones_like(zeros), key=key)
    # E[t^2] of Beta(1.5, 1) is 1.5 / 3.5; of its mirror image it is 0.23.
    assert loss == pytest.approx(1.5 / 3.5, abs=4 * 0.3 / count**0.5)


def test_only_what_a_robot_knows_goes_into_the_policy(small, parts_of):
    rng = np.random.default_rng(0)
    obs = {
        "images": {"scene": jnp.zeros((2, 16, 16, 3), jnp.uint8)},
        "proprio": jnp.asarray(rng.normal(size=(2, 4)), jnp.float32),
        "instruction": jnp.zeros(2, jnp.int32),
        "privileged": jnp.asarray(rng.normal(size=(2, 8)), jnp.float32),
        "grounding": jnp.asarray(rng.normal(size=(2, 6)), jnp.float32),
    }
    told = {name: obs[name] + 1 for name in ("privileged", "grounding")}
    world = PointMass(PointMassConfig())
    policy, _ = make_vla_policy(PolicyConfig(model=models.debug()), SamplerConfig("sde"), world)
    seen, still = policy.inputs(obs), policy.inputs(obs | told)
    jax.tree.map(np.testing.assert_array_equal, seen, still)
    np.testing.assert_array_equal(seen["state"][:, :4], obs["proprio"])
    assert set(seen) <= {"images", "tokens", "token_mask", "state"}
    toy = parts_of(small()).policy
    np.testing.assert_array_equal(toy.encode({}, obs | told), obs["proprio"])


def gathered(failures, solved, small, parts_of):
    """Samples of 16 episodes of three calls, of which the first `solved` succeed."""
    success = np.broadcast_to(np.arange(16) < solved, (3, 16))
    valid = np.ones((3, 16, 2), bool)
    obs = {"episode": np.broadcast_to(np.arange(16), (3, 16))}

    def collect(keys, noise_std, *, key):
        return Demonstrations(obs, None, np.zeros((3, 16, 2, 2)), valid, success)

    config = DemonstrationConfig(episodes=12, failures=failures)
    stages = Stages(parts_of(small()), collect)
    return stages.gather(config, config.failures, key=jax.random.key(0)).obs["episode"]


def test_only_successes_are_imitated(small, parts_of, capsys):
    found = np.unique(gathered(False, 5, small, parts_of))
    np.testing.assert_array_equal(found, np.arange(5))
    assert "5 of 12 demonstrations succeeded" in capsys.readouterr().out
    found = np.unique(gathered(True, 5, small, parts_of))
    np.testing.assert_array_equal(found, np.arange(12))
    with pytest.raises(ValueError, match="none of 12 demonstrations succeeded.* sft.failures=True"):
        gathered(False, 0, small, parts_of)
