"""The value loss and PPO's sum against NumPy float64, by hand, and with masked garbage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.rl import losses
from loomax.agents.rl.loss_config import PPOLossConfig

GARBAGE = [np.nan, np.inf, -np.inf, 1e30]


def values(seed):
    rng = np.random.default_rng(seed)
    names = ("value", "old_value", "target", "weight")
    data = {name: rng.normal(size=6).astype(np.float32) for name in names}
    data["target"] *= 10
    data["weight"] = np.array([1, 0, 2, 0.5, 1, 0], np.float32)
    return data


def value_batch(data, **changes):
    return losses.ValueBatch(**{k: jnp.asarray(v) for k, v in (data | changes).items()})


def reference_value(config, data):
    double = {k: v.astype(np.float64) for k, v in data.items()}

    def huber(x):
        delta = config.huber_delta or np.inf
        return x * x / 2 if abs(x) <= delta else delta * (abs(x) - delta / 2)

    each = []
    for v, old, target in zip(*(double[k] for k in ("value", "old_value", "target")), strict=True):
        near = old + np.clip(v - old, *(config.value_clip or np.inf) * np.array([-1, 1]))
        each.append(max(huber(v - target), huber(near - target)))
    return np.average(each, weights=double["weight"])


@pytest.mark.parametrize("value_clip", [None, 0.2])
@pytest.mark.parametrize("delta", [None, 3.0])
def test_value_loss_equals_float64(value_clip, delta):
    config = PPOLossConfig(value_clip=value_clip, huber_delta=delta)
    data = values(0)
    got, metrics = losses.value_loss(config, value_batch(data))
    np.testing.assert_allclose(got, reference_value(config, data), rtol=1e-5)
    assert ("value_clip_fraction" in metrics) == (value_clip is not None)
    w, target = data["weight"].astype(np.float64), data["target"].astype(np.float64)
    spread = lambda x: np.average((x - np.average(x, weights=w)) ** 2, weights=w)  # noqa: E731
    want = 1 - spread(target - data["value"]) / spread(target)
    np.testing.assert_allclose(metrics["explained_variance"], want, rtol=1e-4)


def test_value_clip_and_huber_by_hand():
    # v 3, old 1, target 4, clip 0.5, delta 2: errors -1 and 1.5 - 4 = -2.5 -> 2 * (2.5 - 1).
    one = lambda x: jnp.asarray([x])  # noqa: E731
    config = PPOLossConfig(value_clip=0.5, huber_delta=2.0)
    data = losses.ValueBatch(one(3.0), one(1.0), one(4.0), one(1.0))
    loss, metrics = losses.value_loss(config, data)
    assert float(loss) == 3.0 and float(metrics["value_clip_fraction"]) == 1.0
    # Only the clipped value counts, and it does not move.
    grad = jax.grad(lambda v: losses.value_loss(config, data.replace(value=v))[0])(one(3.0))
    assert float(grad[0]) == 0.0


def test_explained_variance_of_equal_targets_is_zero():
    ones = jnp.ones(3)
    assert float(losses.explained_variance(jnp.arange(3.0), ones, ones)) == 0.0


def test_ppo_adds_the_two_losses():
    # One element of ratio 1 and advantage 2: the policy loss is -2.
    zero, one = jnp.zeros((1, 1, 1)), jnp.ones(1)
    policy = losses.PolicyBatch(zero, zero, 2 * one, jnp.ones((1, 1, 1), bool), one)
    data, config = values(0), PPOLossConfig(value_coef=0.3)
    loss, metrics = losses.ppo_loss(config, policy, value_batch(data))
    np.testing.assert_allclose(loss, -2 + 0.3 * reference_value(config, data), rtol=1e-5)
    assert float(metrics["loss"]) == float(loss)
    assert {"policy_loss", "value_loss", "ratio_max", "explained_variance"} <= set(metrics)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_masked_values_leave_no_trace(garbage):
    data = values(3)
    live = data["weight"] > 0
    dirty = {k: np.where(live, v, garbage) for k, v in data.items() if k != "weight"}
    config = PPOLossConfig()

    def fn(value, rest):
        return losses.value_loss(config, rest.replace(value=value))

    results = []
    for given_data in (data, data | dirty):
        rest = value_batch(given_data)
        results.append(jax.value_and_grad(fn, has_aux=True)(rest.value, rest))
    jax.tree.map(np.testing.assert_array_equal, *results)
    grad = np.asarray(results[1][1])
    assert (grad[~live] == 0).all() and np.isfinite(grad).all() and (grad[live] != 0).any()


def test_a_batch_of_nothing_gives_zero():
    nothing = value_batch(values(0), weight=np.zeros(6, np.float32))
    loss, metrics = losses.value_loss(PPOLossConfig(), nothing)
    assert float(loss) == 0.0 and all(np.isfinite(x) for x in metrics.values())


def test_only_the_value_is_trained():
    batch = value_batch(values(0))
    grads = jax.grad(lambda b: losses.value_loss(PPOLossConfig(), b)[0])(batch)
    for name in ("value", "old_value", "target", "weight"):
        assert (getattr(grads, name) != 0).any() == (name == "value"), name
