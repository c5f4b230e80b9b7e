"""Rotary frequencies and their extensions against the formulas, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.lm import RopeConfig
from loomax.models.lm.positions import frequencies, magnitude, turn

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


def test_yarn_keeps_fast_and_interpolates_slow_frequencies():
    config = RopeConfig(scaling="yarn", factor=4, original=4096)
    base, yarn = frequencies(RopeConfig(), 64), frequencies(config, 64)
    turns = 4096 * base / (2 * np.pi)
    np.testing.assert_allclose(yarn[turns > 32], base[turns > 32])
    np.testing.assert_allclose(yarn[turns < 1], base[turns < 1] / 4)
    between = (turns >= 1) & (turns <= 32)
    share = (turns[between] - 1) / 31
    np.testing.assert_allclose(yarn[between], base[between] * (share + (1 - share) / 4))
    assert magnitude(config) == pytest.approx(0.1 * np.log(4) + 1)


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
    ],
)
def test_wrong_settings_are_named(fields, words):
    with pytest.raises(ValueError, match=words):
        RopeConfig(**fields)
