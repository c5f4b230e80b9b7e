"""Rotary positions of language models: spacing of the frequencies and the five ways to extend.

Shape letters: B batch, S tokens, N heads, H head width, P = H / 2 pairs.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from loomax.models.lm.config import RopeConfig
from loomax.models.rope import rotate_with

# Cosines and sines.
Turns = tuple[Float[Array, "B S P"], Float[Array, "B S P"]]


def frequencies(config: RopeConfig, width: int) -> np.ndarray:
    """Radians per position of each of the width / 2 pairs, float64 [H / 2].

    Raises:
        ValueError: LongRoPE's divisors are not one for each pair.
    """
    half = width // 2
    exponent = np.arange(half) / half
    if config.spacing == "yoco":
        exponent = np.linspace(0.0, 1.0, half)
    base = config.theta**-exponent
    if config.scaling == "pi":
        return base / config.factor
    if config.scaling == "ntk":
        theta = config.theta * config.factor ** (width / (width - 2))
        return theta**-exponent
    if config.scaling == "yarn":
        left = _left_alone(config, base)
        return base * left + base / config.factor * (1 - left)
    if config.scaling == "longrope":
        if len(config.rescale) != half:
            raise ValueError(
                f"rope.rescale has {len(config.rescale)} divisors; a head of {width} needs {half}"
            )
        return base / np.array(config.rescale)
    return base


def _left_alone(config: RopeConfig, base: np.ndarray) -> np.ndarray:
    """The share of each frequency that YaRN does not interpolate: 1 for fast, 0 for slow ones.

    In between it falls linearly: with the rotations at the original length in the paper (section
    3.2), with the pair's index in the authors' code, between the pairs that make `beta_fast` and
    `beta_slow` rotations.
    """
    turns = config.original * base / (2 * np.pi)
    if config.ramp == "rotations":
        share = (turns - config.beta_slow) / (config.beta_fast - config.beta_slow)
        return np.clip(share, 0.0, 1.0)
    pairs = len(base)
    # The exponent of theta goes up by 1 over so many pairs.
    stretch = pairs - 1 if config.spacing == "yoco" else pairs
    low, high = (
        stretch * math.log(config.original / (2 * math.pi * beta)) / math.log(config.theta)
        for beta in (config.beta_fast, config.beta_slow)
    )
    if config.truncate:
        low, high = math.floor(low), math.ceil(high)
    # The upper end is the code's own: twice the number of pairs.
    low, high = max(low, 0), min(high, 2 * pairs - 1)
    return 1 - np.clip((np.arange(pairs) - low) / max(high - low, 1e-3), 0.0, 1.0)


def magnitude(config: RopeConfig) -> float:
    """Factor on rotated queries and keys, thus squared on scores: YaRN's temperature or LongRoPE's.

    Where only a part of a head is rotated, it belongs to the scale of the scores instead (see
    `mixers.mla`).
    """
    if config.factor <= 1 or not config.theta:
        return 1.0
    if config.scaling == "yarn":
        return 0.1 * math.log(config.factor) + 1.0
    if config.scaling == "longrope":
        return math.sqrt(1 + math.log(config.factor) / math.log(config.original))
    return 1.0


def turns(
    config: RopeConfig, width: int, positions: Int[Array, "B S"], *, scaled: bool = True
) -> Turns | None:
    """Cosine and sine of each pair's angle, times `magnitude` if `scaled`; None when theta is 0."""
    if not config.theta:
        return None
    speed = jnp.asarray(frequencies(config, width), jnp.float32)
    angle = positions.astype(jnp.float32)[..., None] * speed
    scale = magnitude(config) if scaled else 1.0
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return (cos, sin) if scale == 1.0 else (cos * scale, sin * scale)


def turn(
    config: RopeConfig,
    x: Float[Array, "B S N H"],
    positions: Int[Array, "B S"],
    *,
    scaled: bool = True,
) -> Float[Array, "B S N H"]:
    """Queries or keys at their positions; unchanged when theta is 0. `scaled`: see `turns`."""
    return turned(x, turns(config, x.shape[-1], positions, scaled=scaled))


def turned(x: Float[Array, "B S N H"], parts: Turns | None) -> Float[Array, "B S N H"]:
    """Queries or keys rotated by `turns`."""
    return x if parts is None else rotate_with(x, *(part[:, :, None] for part in parts))
