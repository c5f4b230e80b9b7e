"""Critic and noise network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loomax.models.flow_vla.config import debug
from loomax.models.flow_vla.heads import Heads, HeadsConfig, bounded_std, noise_std, value
from loomax.models.flow_vla.prefix import Prefix
from loomax.models.flow_vla.sampler_config import SamplerConfig
from loomax.models.initialise import initialise

BATCH, HORIZON, WIDTH, PREFIX = 3, 4, 16, 5


def heads_of(**changes) -> Heads:
    config = HeadsConfig(critic_hidden=(8, 8), **changes)
    return nnx.merge(*initialise(lambda r: Heads(config, debug(), r), key=jax.random.key(4)))


@pytest.fixture(scope="module")
def inputs() -> dict:
    hidden_key, prefix_key, true_key = jax.random.split(jax.random.key(6), 3)
    mask = jnp.arange(PREFIX)[None] < jnp.array([5, 2, 3])[:, None]
    empty = jnp.zeros((2, BATCH, PREFIX, 1, 8))
    out = jax.random.normal(prefix_key, (BATCH, PREFIX, WIDTH))
    return {
        "hidden": jax.random.normal(hidden_key, (BATCH, HORIZON, WIDTH)),
        "prefix": Prefix(empty, empty, mask, out),
        "privileged": jax.random.normal(true_key, (BATCH, 6)),
    }


def by_hand(heads: Heads, x: np.ndarray) -> np.ndarray:
    """The critic in float64."""
    x = np.asarray(x, np.float64)
    *hidden, last = [
        (np.asarray(k.kernel[...], np.float64), np.asarray(k.bias[...], np.float64))
        for k in heads.critic.layers
    ]
    for kernel, bias in hidden:
        x = np.maximum(x @ kernel + bias, 0)
    return (x @ last[0] + last[1])[:, 0]


def test_critics_read_what_they_say(inputs):
    prefix = inputs["prefix"]
    mean_valid = np.stack(
        [np.asarray(prefix.out[b, :n], np.float64).mean(0) for b, n in enumerate((5, 2, 3))]
    )
    features = {
        "suffix": np.asarray(inputs["hidden"], np.float64).mean(1),
        "prefix": mean_valid,
        "privileged": inputs["privileged"],
    }
    for kind, x in features.items():
        heads = heads_of(critic=kind, privileged=6)
        np.testing.assert_allclose(value(heads, **inputs), by_hand(heads, x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("detach", [True, False])
def test_detach_stops_the_gradient(inputs, detach):
    heads = heads_of(critic="suffix", detach=detach)
    gradient = jax.grad(lambda h: value(heads, hidden=h).sum())(inputs["hidden"])
    assert bool(jnp.any(gradient != 0)) is not detach


def test_last_layer_starts_small():
    last = heads_of(critic="suffix").critic.layers[-1]
    assert 0.005 < float(last.kernel[...].std()) < 0.04 and not np.any(last.bias[...])


def test_learned_std_stays_in_its_bounds(inputs):
    sampler = SamplerConfig("noise", std_min=0.05, std_max=0.2)
    raw = jnp.array([-50.0, 0.0, 50.0])
    expected = [0.05, (0.05 * 0.2) ** 0.5, 0.2]
    np.testing.assert_allclose(bounded_std(raw, sampler), expected, rtol=1e-5)
    heads = heads_of(noise=True, noise_hidden=(8,))
    std = noise_std(heads, sampler, inputs["hidden"])
    assert std.shape == (BATCH, HORIZON, debug().action_dim)
    assert np.all((std > 0.05) & (std < 0.2)) and float(std.std()) > 1e-3


def test_missing_input_and_size_are_refused(inputs):
    with pytest.raises(ValueError, match="critic='prefix'"):
        value(heads_of(critic="prefix"), hidden=inputs["hidden"])
    with pytest.raises(ValueError, match="critic='none'"):
        value(heads_of(critic="none"), **inputs)
    with pytest.raises(ValueError, match="privileged > 0"):
        HeadsConfig(critic="privileged")
