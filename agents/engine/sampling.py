"""Tokens from scores. What is drawn depends on seed, sample and position alone.

A token is drawn by the Gumbel-max trick, argmax(scores / temperature + noise), with noise that is
a pure function of (seed, sample, position): whatever else runs, and however many tokens a step
computes, a position gets the same token.

Shape letters: R rows, T tokens, V vocabulary.
"""

from collections.abc import Sequence
from typing import no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, UInt32

from loomax.agents.search.engine_protocol import Sampling


@struct.dataclass
@no_type_check  # also holds NumPy arrays on their way to the device
class Draws:
    """How each row is sampled; a temperature of 0 is greedy."""

    temperature: Float[Array, " R"]
    seed: UInt32[Array, " R"]
    sample: UInt32[Array, " R"]


def draws_of(samplings: Sequence[Sampling]) -> Draws:
    """Rows of settings as arrays; numbers of any size are taken modulo 2^32."""
    return Draws(
        np.array([sampling.temperature for sampling in samplings], np.float32),
        np.array([sampling.seed % 2**32 for sampling in samplings], np.uint32),
        np.array([sampling.sample % 2**32 for sampling in samplings], np.uint32),
    )


def choose(
    scores: Float[Array, "R V"], at: Int[Array, " R"], draws: Draws
) -> tuple[Int[Array, " R"], Float[Array, " R"]]:
    """The next token of each row and the logarithm of its probability at temperature 1.

    Args:
        at: position that the token will have.
    """
    hot = draws.temperature > 0

    def drawn():
        warm = scores / jnp.where(hot, draws.temperature, 1.0)[:, None]
        noisy = warm + _noise(draws, at, scores.shape[-1])
        return jnp.argmax(jnp.where(hot[:, None], noisy, scores), axis=-1)

    token = jax.lax.cond(hot.any(), drawn, lambda: jnp.argmax(scores, axis=-1))
    logprob = jnp.take_along_axis(scores, token[:, None], axis=-1)[:, 0]
    return token.astype(jnp.int32), logprob - jax.nn.logsumexp(scores, axis=-1)


def choose_each(
    scores: Float[Array, "R T V"], first: Int[Array, " R"], draws: Draws
) -> tuple[Int[Array, "R T"], Float[Array, "R T"]]:
    """`choose` behind every token of a block.

    Args:
        first: position that the token behind the first one will have.
    """
    rows, length, _ = scores.shape
    at = first[:, None] + jnp.arange(length, dtype=first.dtype)
    repeated = jax.tree.map(lambda x: jnp.repeat(x, length), draws)
    token, logprob = choose(scores.reshape(rows * length, -1), at.reshape(-1), repeated)
    return token.reshape(rows, length), logprob.reshape(rows, length)


def _noise(draws: Draws, at: Int[Array, " R"], vocab: int) -> Float[Array, "R V"]:
    def one(seed, sample, at):
        # Two numbers are a whole key, so that seed and sample need no hashing of their own.
        key = jax.random.wrap_key_data(jnp.stack([seed, sample]), impl="threefry2x32")
        return jax.random.gumbel(jax.random.fold_in(key, at), (vocab,))

    return jax.vmap(one)(draws.seed, draws.sample, at)
