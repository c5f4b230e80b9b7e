"""What each mixer hands from shard to shard where a row's tokens are spread over devices.

A shard turns the state S that enters it into P S + A, where A is what it leaves when nothing enters
and P is one factor a head for gated retention and a matrix for the delta rule. Its outputs are
linear in S too. So all shards run at once from nothing, exchange P and A (as large as a state,
whatever the length), and add what they read from S in one product. YOCO (arXiv 2405.05254,
appendix A) hands over states alone as well, but one chunk after the other.

    gated_retention  P and A of every shard
    gated_deltanet   the same, and the convolutions' last inputs of the shard before
    sliding_window   the last keys and values of the shard before
    attention, mla   keys and values of all shards: what a decoder-decoder avoids

Each function is a mixer's `mix` behind a first argument `shard`, for rows without a past.

Shape letters: B batch, T tokens of a shard, S tokens of a row, N heads, M key-value heads, H head
width, K key width, V value width.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from loomax.models.attention import attend
from loomax.models.layers import wide_einsum
from loomax.models.lm.config import LMConfig
from loomax.models.lm.kernels import DENSE_PAIRS
from loomax.models.lm.mixers import MIXERS
from loomax.models.lm.mixers.gated_deltanet import LONGEST_CHUNK, queries_keys_values
from loomax.models.lm.mixers.mla import score_scale
from loomax.models.lm.ops import delta
from loomax.models.lm.ops.attend import visible
from loomax.models.lm.ops.blockwise import blockwise
from loomax.models.lm.ops.convolution import causal
from loomax.models.lm.shard import Shard
from loomax.models.lm.span import Span, positions

Mixed = tuple[Float[Array, "B T N V"], None]


def entering(
    shard: Shard, kept: Float[Array, "B N *KK"], added: Float[Array, "B N K V"]
) -> Float[Array, "B N K V"]:
    """The state behind all earlier shards, as far as it is of this shard's first document.

    Args:
        kept, added: P ([B, N] or [B, N, K, K]) and A of this shard. P is not asked for where a
            document ends inside a shard.
    """

    def step(state, given):
        kept, added, feeds, earlier = given
        moved = kept[..., None, None] * state if kept.ndim == 2 else kept @ state
        moved = moved + jnp.where(feeds[:, None, None, None], added, 0.0)
        return jnp.where(earlier, moved, state), None

    earlier = jnp.arange(shard.count) < shard.index
    parts = (shard.stack(kept), shard.stack(added), shard.feeds(), earlier)
    return jax.lax.scan(step, jnp.zeros_like(added), parts)[0]


def gated_retention(shard: Shard, config: LMConfig, state: None, given: Any, span: Span) -> Mixed:
    mixer = MIXERS["gated_retention"]
    y, added = mixer.mix(config, mixer.empty(config, shard.batch, 0), given, span)
    total = jnp.cumsum(given.log_decay.astype(jnp.float32), axis=1)
    before = entering(shard, jnp.exp(total[:, -1]), added)
    reads = jnp.exp(total)
    if span.segments is not None:
        first = span.segments == span.segments[:, :1]
        reads = jnp.where(first[..., None], reads, 0.0)
    read = wide_einsum("btnk,bnkv->btnv", given.q, before.astype(given.q.dtype))
    return y + read * reads[..., None], None


def gated_deltanet(shard: Shard, config: LMConfig, state: None, given: Any, span: Span) -> Mixed:
    """Columns of an identity beside the state, without values of their own, become P."""
    q, k, v = _convolved(shard, config, given, span)
    size, width, heads = config.mixer_head_dim, config.value_width, config.mixer_heads
    start = jnp.concatenate([jnp.zeros((size, width)), jnp.eye(size)], axis=-1)
    y, after = delta.chunkwise(
        q,
        k,
        jnp.concatenate([v.astype(jnp.float32), jnp.zeros_like(k)], axis=-1),
        given.beta,
        given.log_decay,
        jnp.broadcast_to(start, (shard.batch, heads, *start.shape)),
        span.segments,
        chunk=min(config.chunk, LONGEST_CHUNK),
    )
    (y, reads), (added, kept) = (jnp.split(x, [width], axis=-1) for x in (y, after))
    before = entering(shard, kept, added)
    return y + jnp.einsum("btnk,bnkv->btnv", reads, before), None


def _convolved(shard: Shard, config: LMConfig, given: Any, span: Span) -> tuple[Array, ...]:
    """The mixer's queries, keys and values, with convolutions that reach into the shard before."""
    past = config.conv - 1
    inputs = shard.with_earlier(given.qkv, past)
    nothing = jnp.zeros_like(inputs[:, :past])
    convolved = causal(inputs, given.taps, nothing, shard.segments(past))
    return queries_keys_values(config, convolved[:, past:])


def sliding_window(shard: Shard, config: LMConfig, state: None, given: Any, span: Span) -> Mixed:
    """The mixer's own on a block that begins a window earlier; those outputs are dropped."""
    past = config.window  # One more than is seen, so that the block stays a whole number of tiles.
    longer = given._replace(
        q=jnp.pad(given.q, ((0, 0), (past, 0), (0, 0), (0, 0))),
        k=shard.with_earlier(given.k, past),
        v=shard.with_earlier(given.v, past),
    )
    at = positions(span, 1) - past + jnp.arange(past + shard.length)
    segments = shard.segments(past)
    segments = jnp.zeros_like(at) if segments is None else segments
    # Nothing sees what lies before the row: a kernel without positions knows it by its document.
    segments = jnp.where(at < 0, segments - 1, segments)
    span = Span(span.start - past, span.count + past, segments)
    y, _ = MIXERS["sliding_window"].mix(config, state, longer, span)
    return y[:, past:], None


def attention(shard: Shard, config: LMConfig, state: None, given: Any, span: Span) -> Mixed:
    keys, values = shard.gather(given.k), shard.gather(given.v)
    return attend_row(shard, given.q, keys, values, config.head_dim**-0.5), None


def mla(shard: Shard, config: LMConfig, state: None, given: Any, span: Span) -> Mixed:
    """A key holds its value, the latent."""
    keys, scale = shard.gather(given.k), score_scale(config)
    return attend_row(shard, given.q, keys, keys[..., : config.mla.latent], scale), None


def attend_row(
    shard: Shard,
    q: Float[Array, "B T N H"],
    keys: Float[Array, "B S M H"],
    values: Float[Array, "B S M V"],
    scale: float,
) -> Float[Array, "B T N V"]:
    """This shard's queries to keys and values of whole rows."""
    queries, row = shard.places()
    if q.shape[1] * keys.shape[1] <= DENSE_PAIRS:
        return attend(q, keys, values, visible(queries, row), scale)
    return blockwise(q, keys, values, queries, row, scale)


MIX: dict[str, Callable[..., Mixed]] = {
    "gated_retention": gated_retention,
    "gated_deltanet": gated_deltanet,
    "sliding_window": sliding_window,
    "attention": attention,
    "mla": mla,
}
