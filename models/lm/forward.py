"""Whole rows at once: training and scoring. Pure functions of (config, params, tokens).

Shape letters: B batch, T tokens, D width, V vocabulary.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from loomax.models.layers import matmul
from loomax.models.lm.config import LMConfig
from loomax.models.lm.span import whole
from loomax.models.lm.stack import cross_layers, global_keys_values, normed, self_layers
from loomax.runtime.mesh import constrain


def embed(config: LMConfig, params: PyTree, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    """Token embeddings times sqrt(D), in the dtype of the computation."""
    x = params["embedding"].astype(config.dtype)[tokens]
    return x * jnp.asarray(config.width**0.5, x.dtype)


def output_matrix(config: LMConfig, params: PyTree) -> Float[Array, "D V"]:
    """The output projection, which is the embedding's transpose where they are tied."""
    matrix = params["embedding"].T if config.tied else params["head"]
    return matrix.astype(config.dtype)


def logits_of(
    config: LMConfig, params: PyTree, hidden: Float[Array, "*B D"]
) -> Float[Array, "*B V"]:
    """float32 scores of the next token."""
    return matmul(hidden, output_matrix(config, params)).astype(jnp.float32)


def hidden_states(
    config: LMConfig,
    params: PyTree,
    tokens: Int[Array, "B T"],
    segments: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T D"]:
    """The last layer's output behind the final norm.

    Args:
        segments: document numbers of packed rows, ascending; no token sees another document.
    """
    batch, length = tokens.shape
    span = whole(batch, length, segments)
    x = constrain(embed(config, params, tokens), "batch", "length", None)
    x, _, _ = self_layers(config, params, x, None, span)
    if config.decoder_decoder:
        shared = global_keys_values(config, params, x, span)
        x = cross_layers(config, params, x, shared, span)
    return normed(config, x, params["norm"])


def logits(
    config: LMConfig,
    params: PyTree,
    tokens: Int[Array, "B T"],
    segments: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T V"]:
    """Scores of the token that follows each token."""
    return logits_of(config, params, hidden_states(config, params, tokens, segments))
