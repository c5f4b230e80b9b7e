"""The likelihood of stored denoising chains under the present policy.

Everything is element-wise; `reduce_elements` joins elements by an explicit mask, explicitly by
sum or mean. An element with std 0 is deterministic and contributes exactly 0.

Shape letters: B batch, K steps, T = K + 1 times, H horizon, A action size, W hidden width.
"""

from typing import no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from loomax.models.flow_vla.density import (
    combine_steps,
    normal_entropy,
    normal_log_prob,
    reduce_elements,
)
from loomax.models.flow_vla.sampler import (
    NoiseStdFn,
    VelocityFn,
    step_distribution,
    step_times,
)
from loomax.models.flow_vla.sampler_config import SamplerConfig

__all__ = [
    "ChainLikelihood",
    "chain_log_prob",
    "combine_steps",
    "normal_entropy",
    "normal_log_prob",
    "reduce_elements",
]


@struct.dataclass
@no_type_check  # its structure also holds shapes and shardings
class ChainLikelihood:
    """Log-density and entropy of each element, and hidden states that a critic may read.

    `log_prob` and `hidden` are the same functions of the parameters as `Chain.log_prob` and
    `Chain.hidden`, so the first ratio is 1 and the first value is the one of the rollout.
    """

    log_prob: Float[Array, "B H A"]
    entropy: Float[Array, "B H A"]
    hidden: Float[Array, "B H W"]


def chain_log_prob(
    config: SamplerConfig,
    velocity_fn: VelocityFn,
    noise_std_fn: NoiseStdFn | None,
    chain: Float[Array, "B T H A"],
    index: Int[Array, " B"],
) -> ChainLikelihood:
    """Evaluates a stored chain (batch axis first).

    With one stochastic step per sample only that step is evaluated: one velocity call. Otherwise
    all K are: folded into the batch (`velocity_fn` then gets [K * B, H, A], step-major, which
    `loomax.models.flow_vla.suffix.velocity` accepts), or one by one if config.fold is "scan",
    which needs less memory.

    Raises:
        ValueError: if the chain has not K + 1 entries, or the config is deterministic.
    """
    if config.kind == "ode":
        raise ValueError("a chain of kind='ode' is deterministic: it has no likelihood")
    if chain.shape[1] != config.steps + 1:
        raise ValueError(
            f"the chain has {chain.shape[1]} entries, expected steps + 1 = {config.steps + 1}"
        )

    def evaluate(x, following, k):
        v, hidden = velocity_fn(x, jnp.asarray(step_times(config))[k])
        std = noise_std_fn(hidden) if noise_std_fn and config.kind == "noise" else None
        mean, std = step_distribution(config, x, v, k, std)
        return ChainLikelihood(normal_log_prob(following, mean, std), normal_entropy(std), hidden)

    if config.single:
        return evaluate(_pick(chain, index), _pick(chain, index + 1), index)
    terms = (_scanned if config.fold == "scan" else _folded)(config, evaluate, chain)
    start = chain[:, 0]
    first = ChainLikelihood(
        normal_log_prob(start, 0.0, 1.0), normal_entropy(jnp.ones_like(start)), terms.hidden
    )
    return ChainLikelihood(
        combine_steps(config, terms.log_prob, first.log_prob),
        combine_steps(config, terms.entropy, first.entropy),
        terms.hidden / config.steps,
    )


def _pick(chain: Array, index: Array) -> Array:
    """Entry `index` of each sample's chain."""
    return jnp.take_along_axis(chain, index[:, None, None, None], axis=1)[:, 0]


def _folded(config: SamplerConfig, evaluate, chain: Array) -> ChainLikelihood:
    """Sum over the steps, all evaluated in one batch."""
    batch, steps = chain.shape[0], config.steps
    by_step = chain.swapaxes(0, 1)
    here, following = (x.reshape(steps * batch, *x.shape[2:]) for x in (by_step[:-1], by_step[1:]))
    terms = evaluate(here, following, jnp.repeat(jnp.arange(steps), batch))
    return jax.tree.map(lambda x: x.reshape(steps, batch, *x.shape[1:]).sum(0), terms)


def _scanned(config: SamplerConfig, evaluate, chain: Array) -> ChainLikelihood:
    """Sum over the steps, one after another, recomputed in the backward pass."""
    batch = chain.shape[0]

    # A loop keeps forward and backward pass apart: here XLA:CPU, too, recomputes what it should,
    # and a fence would copy the parameters.
    @jax.checkpoint
    def one(k):
        return evaluate(chain[:, k], chain[:, k + 1], jnp.full((batch,), k))

    def body(total, k):
        return jax.tree.map(jnp.add, total, one(k)), None

    shapes = jax.eval_shape(one, 0)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(body, zeros, jnp.arange(config.steps))[0]
