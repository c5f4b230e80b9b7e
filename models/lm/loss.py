"""Next-token cross-entropy that never holds the scores of all tokens at once.

Shape letters: B batch, T tokens, D width, V vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from loomax.models.lm.config import LMConfig
from loomax.models.lm.forward import hidden_states, logits_of
from loomax.models.lm.ops.blocks import into_blocks


class TokenLoss(NamedTuple):
    """Sums over the counted tokens, each times what it counts; divide them for means."""

    nats: Float[Array, ""]
    correct: Float[Array, ""]
    tokens: Float[Array, ""]


def cross_entropy(
    config: LMConfig,
    params: PyTree,
    hidden: Float[Array, "B T D"],
    targets: Int[Array, "B T"],
    counted: Bool[Array, "B T"] | Float[Array, "B T"],
    *,
    block: int = 512,
) -> TokenLoss:
    """-log p(target) summed over tokens, each times what it counts.

    Scores exist for `block` tokens of each row at a time, in the backward pass too.
    """
    size = min(block, hidden.shape[1])
    parts = tuple(into_blocks(x, size) for x in (hidden, targets, counted))

    # A loop keeps forward and backward pass apart: here XLA:CPU, too, recomputes what it should.
    @jax.checkpoint
    def body(total, part):
        hidden, targets, counted = part
        scores = logits_of(config, params, hidden)
        chosen = jnp.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
        nats = jax.nn.logsumexp(scores, axis=-1) - chosen
        hit = scores.argmax(-1) == targets
        weights = counted.astype(jnp.float32)
        sums = ((weights * nats).sum(), (weights * hit).sum(), weights.sum())
        return jax.tree.map(jnp.add, total, sums), None

    total, _ = jax.lax.scan(body, (jnp.zeros(()),) * 3, parts)
    return TokenLoss(*total)


def next_token_loss(
    config: LMConfig,
    params: PyTree,
    tokens: Int[Array, "B T"],
    segments: Int[Array, "B T"] | None = None,
    counted: Bool[Array, "B T"] | Float[Array, "B T"] | None = None,
) -> TokenLoss:
    """Loss of predicting each token from those before it in its document.

    Args:
        counted: how much each target counts; by default 1, and never anything for the first token
            of a document.
    """
    hidden = hidden_states(config, params, tokens[:, :-1], _without_last(segments))
    kept = jnp.ones(tokens[:, 1:].shape, bool) if counted is None else counted[:, 1:]
    if segments is not None:
        kept *= segments[:, 1:] == segments[:, :-1]
    return cross_entropy(config, params, hidden, tokens[:, 1:], kept)


def _without_last(segments: Array | None) -> Array | None:
    return None if segments is None else segments[:, :-1]
