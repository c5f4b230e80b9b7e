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
        return _yarn(config, base)
    if config.scaling == "longrope":
        if len(config.rescale) != half:
            raise ValueError(
                f"rope.rescale has {len(config.rescale)} divisors; a head of {width} needs {half}"
            )
        return base / np.array(config.rescale)
    return base


def _yarn(config: RopeConfig, base: np.ndarray) -> np.ndarray:
    """Fast frequencies stay, slow ones are interpolated, those between are mixed (section 3.2)."""
    turns = config.original * base / (2 * np.pi)
    keep = (turns - config.beta_slow) / (config.beta_fast - config.beta_slow)
    keep = np.clip(keep, 0.0, 1.0)
    return base * keep + base / config.factor * (1 - keep)


def magnitude(config: RopeConfig) -> float:
    """Factor on rotated queries and keys: YaRN's temperature, or LongRoPE's."""
    if config.factor <= 1:
        return 1.0
    if config.scaling == "yarn":
        return 0.1 * math.log(config.factor) + 1.0
    if config.scaling == "longrope":
        return math.sqrt(1 + math.log(config.factor) / math.log(config.original))
    return 1.0


def turns(config: RopeConfig, width: int, positions: Int[Array, "B S"]) -> Turns | None:
    """Cosine and sine of each pair's angle, times `magnitude`; None when theta is 0."""
    if not config.theta:
        return None
    speed = jnp.asarray(frequencies(config, width), jnp.float32)
    angle = positions.astype(jnp.float32)[..., None] * speed
    scale = magnitude(config)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return (cos, sin) if scale == 1.0 else (cos * scale, sin * scale)


def turn(
    config: RopeConfig, x: Float[Array, "B S N H"], positions: Int[Array, "B S"]
) -> Float[Array, "B S N H"]:
    """Queries or keys at their positions; unchanged when theta is 0."""
    return turned(x, turns(config, x.shape[-1], positions))


def turned(x: Float[Array, "B S N H"], parts: Turns | None) -> Float[Array, "B S N H"]:
    """Queries or keys rotated by `turns`."""
    return x if parts is None else rotate_with(x, *(part[:, :, None] for part in parts))
