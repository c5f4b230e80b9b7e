"""The learning rate and AdamW against what the formulas say, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.pretrain.config import AdamWConfig, StageConfig
from loomax.agents.pretrain.optimiser import decayed, learning_rate, make_optimiser
from loomax.models.lm import shapes
from loomax.models.lm.presets import yoco_debug

STAGES = (
    StageConfig(length=4, batch=1, steps=10, lr=0.1, end_lr=0.04),
    StageConfig(length=8, batch=1, steps=4, lr=0.05, end_lr=0.01),
    StageConfig(length=8, batch=1, steps=2, lr=0.02, end_lr=0.02),
)


@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_the_rate_rises_once_and_falls_in_every_stage(warmup):
    rate = learning_rate(warmup, STAGES)
    want = [0.1 * (step + 1) / warmup for step in range(warmup)]
    fall = 10 - warmup
    want += [0.1 + (0.04 - 0.1) * step / fall for step in range(fall)]
    want += [0.05, 0.04, 0.03, 0.02, 0.02, 0.02]
    np.testing.assert_allclose([float(rate(step)) for step in range(16)], want, rtol=1e-5)


def test_norms_and_rates_are_not_decayed():
    for mixer in ("gated_retention", "gated_deltanet"):
        leaves = jax.tree_util.tree_leaves_with_path(decayed(shapes(yoco_debug(mixer))))
        kept = {path[-1].key for path, value in leaves if not value}
        rates = {"log_rate", "decay_bias"} if mixer == "gated_deltanet" else set()
        assert kept == {"mixer_norm", "hidden_norm", "norm"} | rates
        # The projection that the decay is computed from is a matrix like others.
        assert {"decay", "embedding", "head"} <= {path[-1].key for path, value in leaves if value}


def reference(config, params, grads):
    """AdamW of a step after another (arXiv 1711.05101, algorithm 2), gradients clipped first."""
    moments = {name: (0.0, 0.0) for name in params}
    for step, grad in enumerate(grads):
        norm = np.sqrt(sum((g**2).sum() for g in grad.values()))
        lr = 0.1 + (0.04 - 0.1) * step / 10
        for name, g in grad.items():
            g = g * min(1.0, config.clip_norm / norm)
            first, second = moments[name]
            first = config.b1 * first + (1 - config.b1) * g
            second = config.b2 * second + (1 - config.b2) * g**2
            moments[name] = (first, second)
            unbiased = first / (1 - config.b1 ** (step + 1))
            scale = np.sqrt(second / (1 - config.b2 ** (step + 1))) + 1e-8
            pull = 0.0 if name.endswith("norm") else config.weight_decay
            params[name] = params[name] - lr * (unbiased / scale + pull * params[name])
    return params


def test_adamw_is_the_papers():
    config = AdamWConfig(warmup=0, weight_decay=0.3, clip_norm=1.5)
    rng = np.random.default_rng(0)
    params = {"q": rng.normal(size=(3, 2)), "norm": rng.normal(size=(3,))}
    grads = [{name: rng.normal(size=x.shape) for name, x in params.items()} for _ in range(4)]
    optimiser = make_optimiser(config, STAGES)
    state = {name: jnp.asarray(x, jnp.float32) for name, x in params.items()}
    held = optimiser.init(state)
    for grad in grads:
        updates, held = optimiser.update(jax.tree.map(jnp.float32, grad), held, state)
        state = jax.tree.map(jnp.add, state, updates)
    for name, want in reference(config, params, grads).items():
        np.testing.assert_allclose(state[name], want, rtol=2e-5)
