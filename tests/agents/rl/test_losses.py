"""Losses against NumPy float64, by hand, and with garbage in every masked entry."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.agents.rl import losses, ratios
from loomax.agents.rl.loss_config import GRPOLossConfig, PPOLossConfig
from loomax.agents.rl.masks import active_dims, element_mask

N, H, A, C = 6, 4, 3, 3
GRADIENTS = {}
GARBAGE = [np.nan, np.inf, -np.inf, 1e30]


def arrays(seed, advantage="chunk"):
    """A batch whose ratios cross every clip, with padded dimensions and ended episodes."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    valid = np.arange(C) < rng.integers(0, C + 1, size=(N, 1))
    valid[0] = True
    shape = (N,) if advantage == "chunk" else (N, C)
    old = normal(N, H, A)
    return {
        "log_prob": old + 0.4 * normal(N, H, A),
        "old_log_prob": old,
        "advantage": 2 * normal(*shape),
        "mask": np.asarray(element_mask(jnp.asarray(valid), active_dims(H, A, C, 2))),
        "weight": rng.uniform(0.5, 2.0, shape).astype(np.float32),
        "entropy": normal(N, H, A),
        "ref_log_prob": old + 0.3 * normal(N, H, A),
    }


def batch(data, **changes):
    return losses.PolicyBatch(**{k: jnp.asarray(v) for k, v in (data | changes).items()})


# ----- The reference: loops over units, float64.


def units(data, level):
    """(indices of a unit's elements, its chunk, its step or None), those that count."""
    for n in range(N):
        live = [(n, h, a) for h in range(H) for a in range(A) if data["mask"][n, h, a]]
        if level == "chunk" and live:
            yield live, n, None
        if level == "action":
            for h in sorted({h for _, h, _ in live}):
                yield [i for i in live if i[1] == h], n, h
        if level == "token":
            yield from (([i], n, i[1]) for i in live)


def pick(x, n, h):
    return float(x[n] if x.ndim == 1 else x[n, h])


def reference_policy(config, data):
    """Loss terms by the formulas, one unit at a time."""
    double = {k: np.asarray(v, np.float64) for k, v in data.items()}
    total, surrogate, kl, rows = 0.0, 0.0, 0.0, []
    for where, n, h in units(data, config.level):
        join = np.sum if config.reduction == "sum" else np.mean
        gap = lambda name: join([double["log_prob"][i] - double[name][i] for i in where])  # noqa: E731,B023
        log, advantage = gap("old_log_prob"), pick(double["advantage"], n, h)
        ratio = np.exp(log)
        clipped = min(max(ratio, 1 - config.clip_low), 1 + config.clip_high)
        gain = min(ratio * advantage, clipped * advantage)
        if config.dual_clip and advantage < 0:
            gain = max(gain, config.dual_clip * advantage)
        d = gap("ref_log_prob")
        weight = pick(double["weight"], n, h)
        total, surrogate = total + weight, surrogate - weight * gain
        kl += weight * {"k1": d, "k2": d**2 / 2, "k3": np.exp(-d) - 1 + d}[config.kl_estimator]
        rows.append((ratio, log, advantage))
    level = "chunk" if data["weight"].ndim == 1 else "action"
    entropies = [
        (pick(double["weight"], n, h), np.mean([double["entropy"][i] for i in where]))
        for where, n, h in units(data, level)
    ]
    entropy = np.average([e for _, e in entropies], weights=[w for w, _ in entropies])
    loss = surrogate / total - config.entropy_coef * entropy + config.kl_coef * kl / total
    return loss, {"policy_loss": surrogate / total, "entropy": entropy, "ref_kl": kl / total}, rows


# ----- Numbers.

COMBINATIONS = [
    ("chunk", "sum", "chunk"),
    ("chunk", "mean", "chunk"),
    ("action", "sum", "chunk"),
    ("action", "mean", "action"),
    ("token", "sum", "chunk"),
    ("token", "sum", "action"),
]


@pytest.mark.parametrize(("level", "reduction", "advantage"), COMBINATIONS)
@pytest.mark.parametrize(("dual_clip", "estimator"), [(None, "k1"), (1.5, "k2"), (1.5, "k3")])
def test_policy_loss_equals_float64(level, reduction, advantage, dual_clip, estimator):
    config = PPOLossConfig(
        level=level,
        reduction=reduction,
        clip_low=0.1,
        clip_high=0.3,
        dual_clip=dual_clip,
        entropy_coef=0.7,
        kl_coef=0.4,
        kl_estimator=estimator,
    )
    loss_fn = jax.jit(lambda b: losses.policy_loss(config, b))
    for seed in range(4):
        data = arrays(seed, advantage)
        got, metrics = loss_fn(batch(data))
        want, terms, rows = reference_policy(config, data)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)
        for name, value in terms.items():
            np.testing.assert_allclose(metrics[name], value, rtol=2e-5, atol=2e-6, err_msg=name)
        ratio, log, adv = np.array(rows).T
        np.testing.assert_allclose(metrics["ratio_mean"], ratio.mean(), rtol=1e-5)
        np.testing.assert_allclose(metrics["ratio_max"], ratio.max(), rtol=1e-5)
        np.testing.assert_allclose(metrics["approx_kl"], (ratio - 1 - log).mean(), rtol=1e-4)
        outside = (ratio < 0.9) | (ratio > 1.3)
        np.testing.assert_allclose(metrics["clip_fraction"], outside.mean(), rtol=1e-6)
        assert ("dual_clip_fraction" in metrics) == (dual_clip is not None)
        if dual_clip is not None:
            beyond = ((adv < 0) & (ratio > dual_clip)).mean()
            np.testing.assert_allclose(metrics["dual_clip_fraction"], beyond, rtol=1e-6)


def test_the_data_reach_every_clip():
    config = PPOLossConfig(dual_clip=1.5)
    rows = np.array([r for s in range(4) for r in reference_policy(config, arrays(s))[2]])
    ratio, _, advantage = rows.T
    assert ((ratio > 1.5) & (advantage < 0)).any() and ((ratio > 1.2) & (advantage > 0)).any()
    assert ((ratio < 0.8) & (advantage < 0)).any() and (abs(ratio - 1) < 0.2).any()


@pytest.mark.parametrize(
    ("ratio", "advantage", "dual", "loss"),
    [
        (1.5, 2.0, None, -2.6),
        (0.5, 2.0, None, -1.0),
        (0.5, -2.0, None, 1.8),
        (5.0, -2.0, None, 10.0),
        (5.0, -2.0, 3.0, 6.0),
        (2.0, -2.0, 3.0, 4.0),
        (5.0, 2.0, 3.0, -2.6),
    ],
)
def test_clips_by_hand(ratio, advantage, dual, loss):
    # clip to [0.9, 1.3]
    config = PPOLossConfig(clip_low=0.1, clip_high=0.3, dual_clip=dual)
    got = losses.clipped_surrogate(config, jnp.asarray(ratio), jnp.asarray(advantage))
    np.testing.assert_allclose(got, loss, rtol=1e-6)


def test_grpo_is_the_policy_loss_without_a_critic():
    data, config = arrays(0), GRPOLossConfig()
    loss, metrics = losses.grpo_loss(config, batch(data))
    np.testing.assert_allclose(loss, reference_policy(config, data)[0], rtol=1e-5)
    assert float(metrics["loss"]) == float(loss) and "value_loss" not in metrics


def test_kl_estimators_agree_in_the_mean():
    # KL(N(0.3, 1) || N(0, 1)) = 0.045; k2 is biased by its third order.
    x = 0.3 + jax.random.normal(jax.random.key(0), (200_000,))
    d = 0.3 * x - 0.045
    for name, tolerance in (("k1", 2e-3), ("k2", 3e-3), ("k3", 1e-3)):
        assert abs(float(ratios.kl_estimate(d, name).mean()) - 0.045) < tolerance
    assert (ratios.kl_estimate(d, "k3") >= -1e-7).all()


# ----- Gradients.


@pytest.mark.parametrize(("level", "reduction", "advantage"), COMBINATIONS)
def test_at_ratio_one_the_gradient_is_the_policy_gradient(level, reduction, advantage):
    data = arrays(1, advantage)
    data["log_prob"] = data["old_log_prob"]
    config = PPOLossConfig(level=level, reduction=reduction, dual_clip=3.0)
    fn = lambda x: losses.policy_loss(config, batch(data).replace(log_prob=x))  # noqa: E731
    grad_fn = jax.jit(jax.value_and_grad(fn, has_aux=True))
    (_, metrics), grad = grad_fn(jnp.asarray(data["log_prob"]))
    assert float(metrics["ratio_max"]) == 1.0 and float(metrics["approx_kl"]) == 0.0
    want, total = np.zeros((N, H, A)), 0.0
    for where, n, h in units(data, level):
        weight = pick(data["weight"], n, h)
        total += weight
        for i in where:
            share = len(where) if reduction == "mean" else 1
            want[i] = -weight * pick(data["advantage"], n, h) / share
    np.testing.assert_allclose(grad, want / total, rtol=1e-5, atol=1e-7)


@given(st.integers(0, 2**32 - 1), st.sampled_from(COMBINATIONS), st.sampled_from(GARBAGE))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_masked_entries_leave_no_trace(seed, combination, garbage):
    level, reduction, advantage = combination
    data = arrays(seed, advantage)
    # Two more chunks are dropped by their weight alone, as the group filter does.
    data["weight"][[2, 4]] = 0
    config = PPOLossConfig(
        level=level, reduction=reduction, dual_clip=3.0, entropy_coef=0.5, kl_coef=0.5
    )
    kept = data["mask"] & (data["weight"].reshape(N, -1)[:, :1, None] > 0)
    dirty = dict(data)
    for name in ("log_prob", "old_log_prob", "entropy", "ref_log_prob"):
        dirty[name] = np.where(kept, data[name], garbage)
    steps = kept.any(-1)[:, :C]
    live = steps.any(-1) if advantage == "chunk" else steps
    dirty["advantage"] = np.where(live, data["advantage"], garbage)

    def fn(log_prob, entropy, rest):
        return losses.policy_loss(config, rest.replace(log_prob=log_prob, entropy=entropy))

    # One compilation per combination, whatever the seed.
    if combination not in GRADIENTS:
        GRADIENTS[combination] = jax.jit(jax.value_and_grad(fn, argnums=(0, 1), has_aux=True))
    grad_fn = GRADIENTS[combination]
    results = []
    for given_data in (data, dirty):
        rest = batch(given_data)
        results.append(grad_fn(rest.log_prob, rest.entropy, rest))
    (clean, clean_grads), (dirtied, dirty_grads) = results
    jax.tree.map(np.testing.assert_array_equal, clean, dirtied)
    jax.tree.map(np.testing.assert_array_equal, clean_grads, dirty_grads)
    assert all((np.asarray(g)[~kept] == 0).all() for g in dirty_grads)
    assert np.isfinite(dirtied[0]) and all(np.isfinite(g).all() for g in dirty_grads)
    assert (np.asarray(dirty_grads[1])[kept] != 0).all()


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_an_enormous_ratio_gives_finite_gradients(advantage):
    data = arrays(0) | {"advantage": np.full(N, advantage, np.float32)}
    data["log_prob"] = data["old_log_prob"] + 1e3
    fn = lambda x: losses.policy_loss(PPOLossConfig(), batch(data).replace(log_prob=x))[0]  # noqa: E731
    loss, grad = jax.value_and_grad(fn)(jnp.asarray(data["log_prob"]))
    assert np.isfinite(loss) and (np.asarray(grad) == 0).all()


def test_a_batch_of_nothing_gives_zero():
    data = arrays(0) | {"mask": np.zeros((N, H, A), bool)}
    loss, metrics = losses.policy_loss(PPOLossConfig(entropy_coef=0.1, kl_coef=0.1), batch(data))
    assert float(loss) == 0.0 and all(np.isfinite(x) for x in metrics.values())


def test_only_the_policy_is_trained():
    data, config = batch(arrays(0)), PPOLossConfig(entropy_coef=0.1, kl_coef=0.1)
    names = ("log_prob", "entropy", "old_log_prob", "advantage", "weight", "ref_log_prob")

    def fn(parts):
        return losses.policy_loss(config, data.replace(**parts))[0]

    grads = jax.jit(jax.grad(fn))({name: getattr(data, name) for name in names})
    for name in names:
        assert (grads[name] != 0).any() == (name in ("log_prob", "entropy")), name


# ----- What is refused.


def test_a_refused_config_does_not_run():
    with pytest.raises(ValueError, match="clip_low"):
        losses.policy_loss(PPOLossConfig(clip_low=2.0), batch(arrays(0)))


def test_a_term_without_its_input_is_refused():
    data = arrays(0)
    for term, name in (("entropy_coef", "entropy"), ("kl_coef", "ref_log_prob")):
        lacking = losses.PolicyBatch(**{k: jnp.asarray(v) for k, v in data.items() if k != name})
        with pytest.raises(ValueError, match=f"{term}=0.1 needs batch.{name}"):
            losses.policy_loss(PPOLossConfig(**{term: 0.1}), lacking)
        loss, metrics = losses.policy_loss(PPOLossConfig(), lacking)
        assert np.isfinite(loss)


def test_levels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"weight has shape \(6, 3\), expected \(6,\)"):
        losses.policy_loss(PPOLossConfig(level="chunk"), batch(arrays(0, "action")))
    wide = arrays(0) | {"advantage": np.zeros((N, H + 1), np.float32)}
    with pytest.raises(ValueError, match=r"steps up to 4,"):
        losses.policy_loss(PPOLossConfig(level="action"), batch(wide))


def test_unequal_shapes_are_refused():
    data = arrays(0)
    changed = batch(data).replace(log_prob=jnp.asarray(data["log_prob"]))
    object.__setattr__(changed, "old_log_prob", jnp.zeros((N, H, 1)))
    with pytest.raises(ValueError, match=r"old_log_prob has shape \(6, 4, 1\)"):
        inspect.unwrap(losses.policy_loss)(PPOLossConfig(), changed)
