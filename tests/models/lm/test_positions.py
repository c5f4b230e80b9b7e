"""Rotary frequencies and their extensions against the formulas, in float64."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.lm import RopeConfig
from loomax.models.lm.mixers import mla
from loomax.models.lm.positions import frequencies, magnitude, turn
from loomax.models.lm.presets import transformer_debug

WIDTH = 8


def test_spacings():
    standard = frequencies(RopeConfig(), WIDTH)
    np.testing.assert_allclose(standard, [10_000 ** (-2 * i / WIDTH) for i in range(4)])
    yoco = frequencies(RopeConfig(spacing="yoco"), WIDTH)
    np.testing.assert_allclose(yoco, [1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3), 1e-4])


def test_turning_is_a_complex_rotation():
    x = np.random.default_rng(0).normal(size=(1, 3, 2, WIDTH)).astype(np.float32)
    at = np.array([[0, 5, 1000]])
    got = np.asarray(turn(RopeConfig(), jnp.array(x), jnp.array(at)), np.float64)
    angle = at[0][:, None] * frequencies(RopeConfig(), WIDTH)
    z = (x[0, ..., :4] + 1j * x[0, ..., 4:]) * np.exp(1j * angle)[:, None]
    np.testing.assert_allclose(got[0, ..., :4] + 1j * got[0, ..., 4:], z, atol=1e-4)


def test_scores_depend_on_distance_alone():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, WIDTH))

    def score(m, n):
        at = [jnp.array([[p]]) for p in (m, n)]
        rotated = [turn(RopeConfig(), x, p) for x, p in zip((q, k), at, strict=True)]
        return float((rotated[0] * rotated[1]).sum())

    assert score(3, 1) == pytest.approx(score(103, 101), abs=1e-4)
    assert score(3, 1) != pytest.approx(score(4, 1), abs=1e-3)


def test_interpolation_and_ntk():
    base = frequencies(RopeConfig(), WIDTH)
    pi = frequencies(RopeConfig(scaling="pi", factor=4), WIDTH)
    np.testing.assert_allclose(pi, base / 4)
    ntk = frequencies(RopeConfig(scaling="ntk", factor=4), WIDTH)
    # The slowest wavelength grows by the factor, the fastest not at all.
    np.testing.assert_allclose(ntk[[0, -1]], [base[0], base[-1] / 4])


# Frequencies of heads of 16, base 10,000, and the factor on cosines and sines, as transformers 5.24
# gives them (`modeling_rope_utils.ROPE_INIT_FUNCTIONS`, float32): linear by 4, dynamic NTK at the
# length where it stretches by 4, yarn by 8 with and without whole ends, longrope by 8.
DIVISORS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
RELEASED = {
    "none": (
        {},
        [1.0, 0.316227766, 0.1, 3.16227763e-2, 1e-2, 3.16227763e-3, 1e-3, 3.16227763e-4],
        1,
    ),
    "pi": (
        {"scaling": "pi", "factor": 4.0},
        [0.25, 7.90569410e-2, 0.025, 7.90569466e-3, 2.5e-3, 7.90569466e-4, 2.5e-4, 7.90569466e-5],
        1.0,
    ),
    "ntk": (
        {"scaling": "ntk", "factor": 4.0},
        [1.0, 0.259412825, 6.72950074e-2, 1.74571890e-2, 4.52861842e-3, 1.17478159e-3]
        + [3.04753397e-4, 7.90569466e-5],
        1.0,
    ),
    "yarn": (
        {"scaling": "yarn", "factor": 8.0},
        [1.0, 0.316227764, 0.1, 2.47052945e-2, 5.62499976e-3, 1.08703296e-3, 1.25e-4]
        + [3.95284733e-5],
        1.2079441541679836,
    ),
    "yarn, ends that are no whole numbers": (
        {"scaling": "yarn", "factor": 8.0, "truncate": False},
        [1.0, 0.316227764, 0.1, 2.81120818e-2, 5.98313287e-3, 9.72857641e-4, 1.25e-4]
        + [3.95284733e-5],
        1.2079441541679836,
    ),
    "yarn, other ends": (
        {"scaling": "yarn", "factor": 4.0, "original": 32768, "theta": 1e6}
        | {"beta_fast": 16.0, "beta_slow": 2.0},
        [1.0, 0.177827939, 3.16227786e-2, 5.62341325e-3, 6.25000044e-4, 4.44569851e-5]
        + [7.90569356e-6, 1.40585337e-6],
        1.138629436111989,
    ),
    "longrope": (
        {"scaling": "longrope", "factor": 8.0, "original": 2048, "rescale": DIVISORS},
        [1.0, 0.210818499, 5.00000007e-2, 1.05409250e-2, 2.5e-3, 6.32455572e-4, 1.66666667e-4]
        + [3.95284733e-5],
        1.1281521496355325,
    ),
}


@pytest.mark.parametrize("case", RELEASED)
def test_scalings_are_those_of_released_models(case):
    fields, speeds, factor = RELEASED[case]
    config = RopeConfig(**fields)
    np.testing.assert_allclose(frequencies(config, 16), speeds, rtol=2e-7)
    assert magnitude(config) == pytest.approx(factor, rel=1e-12)


def test_yarn_at_the_size_of_released_heads():
    """Heads of 128 by 8: pairs below 20 stay, those from 46 on are divided, between them a line."""
    config = RopeConfig(scaling="yarn", factor=8.0)
    base, yarn = frequencies(RopeConfig(), 128), frequencies(config, 128)
    np.testing.assert_array_equal(yarn[:21], base[:21])
    np.testing.assert_allclose(yarn[46:], base[46:] / 8, rtol=1e-12)
    # transformers 5.24, truncated and not.
    np.testing.assert_allclose(
        yarn[[25, 36, 45]], [2.27762778e-2, 2.59542139e-3, 2.44315306e-4], 2e-7
    )
    exact = frequencies(replace(config, truncate=False), 128)
    np.testing.assert_allclose(
        exact[[25, 36, 45]], [2.33490914e-2, 2.54728785e-3, 1.93994769e-4], 1e-6
    )


def test_the_paper_s_yarn_rises_with_rotations():
    config = RopeConfig(scaling="yarn", factor=4, ramp="rotations")
    base, yarn = frequencies(RopeConfig(), 64), frequencies(config, 64)
    turns = 4096 * base / (2 * np.pi)
    np.testing.assert_allclose(yarn[turns > 32], base[turns > 32])
    np.testing.assert_allclose(yarn[turns < 1], base[turns < 1] / 4)
    between = (turns >= 1) & (turns <= 32)
    share = (turns[between] - 1) / 31
    np.testing.assert_allclose(yarn[between], base[between] * (share + (1 - share) / 4))


def test_yarn_of_evenly_spread_exponents_bends_where_the_rotations_say():
    """YOCO's exponents rise by 1 / (pairs - 1) a pair."""
    config = RopeConfig(scaling="yarn", factor=4, spacing="yoco", truncate=False)
    plain = frequencies(RopeConfig(spacing="yoco"), 64)
    turns, kept = 4096 * plain / (2 * np.pi), frequencies(config, 64) / plain
    np.testing.assert_allclose(kept[turns > 32], 1.0)
    np.testing.assert_allclose(kept[turns < 1], 0.25)
    # A straight line of the index, that is of the logarithm of the rotations.
    between = (turns >= 1) & (turns <= 32)
    line = np.log(turns[between]) / np.log(32)
    np.testing.assert_allclose(kept[between], 0.25 + 0.75 * line)


@pytest.mark.parametrize("scaling", ["yarn", "longrope"])
def test_latent_attention_sharpens_whole_scores(scaling):
    """The factor squared on the scores, and rotations without it (DeepSeek's code)."""
    rope = RopeConfig(scaling=scaling, factor=8.0, rescale=(1.0,) * 32)
    config = replace(transformer_debug("mla"), rope=rope)
    assert mla.score_scale(config) == pytest.approx(192**-0.5 * magnitude(rope) ** 2)
    x = jax.random.normal(jax.random.key(0), (1, 3, 2, 64))
    at = jnp.array([[0, 5, 9]])
    turned = turn(rope, x, at, scaled=False)
    np.testing.assert_allclose(*(jnp.square(y).sum(-1) for y in (turned, x)), rtol=1e-5)


def test_longrope_divides_each_frequency():
    config = RopeConfig(scaling="longrope", factor=8, original=2048, rescale=(1.0, 2.0, 4.0, 8.0))
    base = frequencies(RopeConfig(), WIDTH)
    np.testing.assert_allclose(frequencies(config, WIDTH), base / [1, 2, 4, 8])
    assert magnitude(config) == pytest.approx(np.sqrt(1 + np.log(8) / np.log(2048)))
    with pytest.raises(ValueError, match="4 divisors; a head of 16 needs 8"):
        frequencies(config, 16)


def test_no_positions():
    x = jnp.ones((1, 1, 1, WIDTH))
    assert turn(RopeConfig(theta=0), x, jnp.array([[9]])) is x


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"factor": 0.5}, "factor is 0.5"),
        ({"theta": -1.0}, "theta is -1"),
        ({"scaling": "longrope"}, "rope.rescale"),
        ({"beta_slow": 40.0}, "rope.beta_slow is 40.0 and rope.beta_fast 32.0"),
    ],
)
def test_wrong_settings_are_named(fields, words):
    with pytest.raises(ValueError, match=words):
        RopeConfig(**fields)


@pytest.mark.parametrize("fields", [{"scaling": "yarm"}, {"ramp": "yarm"}])
def test_an_unknown_choice_is_named(fields):
    # The type checker of the tests sees the wrong literal first.
    with pytest.raises((ValueError, TypeError), match="yarm"):
        RopeConfig(**fields)
