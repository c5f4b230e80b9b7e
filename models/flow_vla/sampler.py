"""Denoising: from noise at t = 1 to actions at t = 0 in K uniform steps.

Each step draws x' ~ N(mean, std^2) from the current x and velocity v. With d = 1 / K, the clean
estimate x0 = x - t v and the noise estimate x1 = x + (1 - t) v:

    ode    mean = (1 - t + d) x0 + (t - d) x1 = x - d v, std = 0
    sde    mean = (1 - t + d) x0 + (t - d - s^2 d / (2 t)) x1, std = sqrt(d) s,
           s = a sqrt(t / (1 - t)), where 1 - t at t = 1 is replaced by d
    noise  mean as ode, std from a learned network (Flow-Noise)
    cps    mean = (1 - t + d) x0 + (t - d) cos(pi a / 2) x1, std = (t - d) sin(pi a / 2)

The sde keeps the marginals of the ode as K grows. piRL (arXiv 2510.25889) prints another form
(its equations 8-9) which does not; a test shows both.

Shape letters: B batch, H horizon, A action size, K steps, T = K + 1 times, W hidden
width.
"""

from collections.abc import Callable
from typing import no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from loomax.models.flow_vla.density import combine_steps, normal_log_prob
from loomax.models.flow_vla.sampler_config import SamplerConfig

VelocityFn = Callable[[Array, Array], tuple[Array, Array]]
NoiseStdFn = Callable[[Array], Array]

__all__ = ["Chain", "SamplerConfig", "sample_chain", "step_distribution", "step_times"]


@struct.dataclass
@no_type_check  # its structure also holds shapes and shardings
class Chain:
    """A sampled denoising chain.

    Args:
        xs: x at every time, noise first, actions last.
        index: the one stochastic step of each sample, -1 where all or none are.
        log_prob: element-wise log-density of the stochastic step, or of all of them joined.
        hidden: expert hidden states at that step, or their mean over all steps.
    """

    xs: Float[Array, "T B H A"]
    index: Int[Array, " B"]
    log_prob: Float[Array, "B H A"]
    hidden: Float[Array, "B H W"]


def step_times(config: SamplerConfig) -> Float[np.ndarray, " K"]:
    """The time before each step: 1, (K - 1) / K, ..., 1 / K."""
    return (1 - np.arange(config.steps) / config.steps).astype(np.float32)


def step_distribution(
    config: SamplerConfig,
    x: Float[Array, "B H A"],
    v: Float[Array, "B H A"],
    t_index: Int[ArrayLike, "..."],
    std: Float[Array, "B H A"] | None = None,
    stochastic: Bool[Array, " B"] | None = None,
) -> tuple[Float[Array, "B H A"], Float[Array, "B H A"]]:
    """Mean and standard deviation of the next x.

    Args:
        t_index: which step, one for all or one per sample.
        std: the learned standard deviation (kind "noise" only).
        stochastic: where False the step is the ode's, with std 0. None: everywhere stochastic.

    Raises:
        ValueError: if kind is "noise" and `std` is missing.
    """
    if config.kind == "noise" and std is None:
        raise ValueError("kind='noise' needs the learned std; pass a noise_std_fn")
    d = 1.0 / config.steps
    t = jnp.asarray(step_times(config))[t_index]
    t = jnp.reshape(t, t.shape + (1,) * (x.ndim - t.ndim))
    level = config.noise_level
    clean, noise = x - t * v, x + (1 - t) * v
    ode = x - d * v
    mean, spread = ode, jnp.zeros_like(t)
    if config.kind == "sde":
        sigma = level * jnp.sqrt(t / jnp.maximum(1 - t, d))
        spread = np.sqrt(d) * sigma
        mean = (1 - t + d) * clean + (t - d - jnp.square(sigma) * d / (2 * t)) * noise
    elif config.kind == "cps":
        angle = np.pi * level / 2
        # t - d is 0 at the last step up to rounding, and must not be negative.
        left = jnp.maximum(t - d, 0.0) * (t > 1.5 * d)
        spread = left * np.sin(angle)
        mean = (1 - left) * clean + left * np.cos(angle) * noise
    elif config.kind == "noise":
        spread = std
    spread = jnp.broadcast_to(spread, x.shape)
    if stochastic is None:
        return mean, spread
    here = stochastic.reshape(stochastic.shape + (1,) * (x.ndim - 1))
    return jnp.where(here, mean, ode), jnp.where(here, spread, 0.0)


def sample_chain(
    config: SamplerConfig,
    velocity_fn: VelocityFn,
    noise_std_fn: NoiseStdFn | None,
    x_init: Float[Array, "B H A"],
    *,
    stochastic_index: Int[Array, " B"] | None = None,
    key: Key[Array, ""],
) -> Chain:
    """Denoises `x_init` and keeps every x.

    Args:
        velocity_fn: (x[B,H,A], t[B]) -> (velocity[B,H,A], hidden[B,H,W]).
        noise_std_fn: hidden -> std[B,H,A]; used by kind "noise".
        stochastic_index: the stochastic step of each sample (see `SamplerConfig.draw_index`).

    Raises:
        ValueError: if the config wants one stochastic step and no index is given, or none and one
            is given.
    """
    if config.single != (stochastic_index is not None):
        raise ValueError(
            f"kind={config.kind!r} with stochastic={config.stochastic!r} "
            f"{'needs' if config.single else 'takes no'} stochastic_index"
        )
    batch, times = x_init.shape[0], jnp.asarray(step_times(config))

    def step(carry, k):
        x, log_prob, seen = carry
        v, hidden = velocity_fn(x, jnp.full((batch,), times[k]))
        std = noise_std_fn(hidden) if noise_std_fn and config.kind == "noise" else None
        here = None if stochastic_index is None else stochastic_index == k
        mean, spread = step_distribution(config, x, v, k, std, here)
        draw = jax.random.normal(jax.random.fold_in(key, k), x.shape, x.dtype)
        following = mean + spread * draw
        log_prob = log_prob + normal_log_prob(following, mean, spread)
        weight = jnp.full((batch,), 1 / config.steps) if here is None else here
        seen = seen + hidden * weight.astype(hidden.dtype)[:, None, None]
        return (following, log_prob, seen), following

    hidden = jax.eval_shape(velocity_fn, x_init, jnp.zeros((batch,)))[1]
    start = (x_init, jnp.zeros_like(x_init), jnp.zeros(hidden.shape, hidden.dtype))
    (_, log_prob, seen), xs = jax.lax.scan(step, start, jnp.arange(config.steps))
    if not config.single:
        log_prob = combine_steps(config, log_prob, normal_log_prob(x_init, 0.0, 1.0))
    index = jnp.full((batch,), -1) if stochastic_index is None else stochastic_index
    return Chain(jnp.concatenate([x_init[None], xs]), index, log_prob, seen)
