"""Attention by blocks of queries and keys, in the memory of one pair of blocks.

Forward with a running softmax (Rabe and Staats, arXiv 2112.05682). Backward as in FlashAttention-2
(Dao, arXiv 2307.08691, section 3.1): of the forward pass only the result and the logarithm of each
query's sum of exponentials are kept, and weights are computed again. Left to itself, the derivative
of the running softmax would keep its state at every block of keys.

Shape letters: B batch, T queries, S keys, N query heads, K key-value heads, G query heads of one
of them, H key width, V value width, C blocks, L tokens of a block.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from loomax.models.attention import MASKED
from loomax.models.layers import wide_einsum
from loomax.models.lm.ops.attend import Places, grouped, joined, visible
from loomax.models.lm.ops.blocks import from_blocks, into_blocks


def blockwise(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K V"],
    queries: Places,
    keys: Places,
    scale: float,
    *,
    window: int | None = None,
    block: int = 512,
) -> Float[Array, "B T N V"]:
    """softmax(scale q k) v where `visible` says so.

    Beside what goes in and out, memory grows with block^2 instead of T * S, in the backward pass
    too. Pairs of blocks without a visible key cost nothing.
    """
    return _attend(q, k, v, queries, keys, scale, window, block)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def _attend(q, k, v, queries, keys, scale, window, block):
    return _forward(q, k, v, queries, keys, scale, window, block)[0]


def _forward(q, k, v, queries, keys, scale, window, block):
    # Layers in a loop share their keys. Were these not tied to the queries, the loop's derivative
    # would compute what follows from keys alone (masks of all pairs of blocks) first, and keep it.
    q, k, v, queries, keys = jax.lax.optimization_barrier((q, k, v, queries, keys))
    key_blocks = jax.tree.map(lambda x: _cut(x, block), (k, v, keys))

    def attend_block(part):
        q, queries = part
        return _running_softmax(q, queries, key_blocks, scale, window)

    query_blocks = jax.tree.map(lambda x: _cut(x, block), (q, queries))
    out, totals = jax.lax.map(attend_block, query_blocks)
    out = from_blocks(out, q.shape[1])
    return out, (q, k, v, queries, keys, out, totals)


def _running_softmax(
    q: Float[Array, "B L N H"], queries: Places, key_blocks: tuple, scale: float, window: int | None
) -> tuple[Float[Array, "B L N V"], Float[Array, "B K G L"]]:
    """One block of queries over all blocks of keys: the result, and log sum exp of each query."""
    k, v, _ = key_blocks
    heads = grouped(q, k.shape[3])

    def read(carry, k, v, seen):
        top, mass, out = carry
        scores = _scores(heads, k, seen, scale)
        higher = jnp.maximum(top, scores.max(-1))
        weights = jnp.exp(scores - higher[..., None])
        shrink = jnp.exp(top - higher)
        more = wide_einsum("bkgts,bskv->bkgtv", weights.astype(v.dtype), v)
        return higher, mass * shrink + weights.sum(-1), out * shrink[..., None] + more

    def body(carry, part):
        k, v, keys = part
        seen = visible(queries, keys, window)
        return jax.lax.cond(seen.any(), read, lambda carry, *_: carry, carry, k, v, seen), None

    shape = heads.shape[:-1]
    start = (
        jnp.full(shape, MASKED, jnp.float32),
        jnp.zeros(shape, jnp.float32),
        jnp.zeros((*shape, v.shape[-1]), jnp.float32),
    )
    (top, mass, out), _ = jax.lax.scan(body, start, key_blocks)
    # Padding may see nothing at all.
    mass = jnp.maximum(mass, jnp.finfo(jnp.float32).tiny)
    return joined((out / mass[..., None]).astype(v.dtype)), top + jnp.log(mass)


def _backward(scale, window, block, kept, cotangent):
    q, k, v, queries, keys, out, totals = kept
    # Of each query: the mean of the weights' cotangents, which the softmax takes out.
    means = (cotangent.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1, keepdims=True)
    parts = jax.tree.map(lambda x: _cut(x, block), (q, cotangent, means, queries))
    key_blocks = jax.tree.map(lambda x: _cut(x, block), (k, v, keys))

    def over_keys(dq, part):
        return _over_queries(dq, part, (*parts, totals), scale, window)

    # A block of keys at a time: sums over all queries then stay small, and those towards the
    # queries are as long as these, not as all keys.
    start = jnp.zeros(parts[0].shape, jnp.float32)
    dq, (dk, dv) = jax.lax.scan(over_keys, start, key_blocks)
    dq = from_blocks(dq, q.shape[1]).astype(q.dtype)
    return dq, from_blocks(dk, k.shape[1]), from_blocks(dv, v.shape[1]), None, None


_attend.defvjp(_forward, _backward)


def _over_queries(
    dq: Float[Array, "C B L N H"], keys: tuple, parts: tuple, scale: float, window: int | None
) -> tuple[Float[Array, "C B L N H"], tuple[Array, Array]]:
    """Gradients of all queries, added to `dq`, and of one block of keys and values."""
    k, v, places = keys

    def step(carry, part):
        queries = part[3]
        seen = visible(queries, places, window)
        idle = lambda carry, dq, *_: (carry, dq)  # noqa: E731
        pull = partial(_pull_back, scale)
        return jax.lax.cond(seen.any(), pull, idle, carry, part[-1], part[:-1], k, v, seen)

    start = jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    (dk, dv), dq = jax.lax.scan(step, start, (*parts, dq))
    return dq, (dk.astype(k.dtype), dv.astype(v.dtype))


def _pull_back(
    scale: float, sums: tuple, dq: Float[Array, "B L N H"], queries: tuple, k, v, seen
) -> tuple[tuple, Float[Array, "B L N H"]]:
    """One pair of blocks: `sums` of the keys' and values' gradients, and `dq`, with its share."""
    q, cotangent, means, _, totals = queries
    heads = grouped(q, k.shape[2])
    given, mean = grouped(cotangent, k.shape[2]), grouped(means, k.shape[2])
    weights = jnp.exp(_scores(heads, k, seen, scale) - totals[..., None])
    weights = jnp.where(seen[:, None, None], weights, 0)
    slopes = weights * (wide_einsum("bkgtv,bskv->bkgts", given, v) - mean) * scale
    weights, slopes = weights.astype(v.dtype), slopes.astype(k.dtype)
    dk, dv = sums
    dk += wide_einsum("bkgts,bkgth->bskh", slopes, heads)
    dv += wide_einsum("bkgts,bkgtv->bskv", weights, given)
    return (dk, dv), dq + joined(wide_einsum("bkgts,bskh->bkgth", slopes, k))


def _scores(
    heads: Float[Array, "B K G T H"],
    k: Float[Array, "B S K H"],
    seen: Bool[Array, "B T S"],
    scale: float,
) -> Float[Array, "B K G T S"]:
    scores = scale * wide_einsum("bkgth,bskh->bkgts", heads, k)
    return jnp.where(seen[:, None, None], scores, MASKED)


def _cut(x: Array, block: int) -> Array:
    """[B, S, ...] as [C, B, L, ...]; places that are padded do not exist."""
    if jnp.issubdtype(x.dtype, jnp.integer):
        x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % block)), constant_values=-1)
    return into_blocks(x, block)
