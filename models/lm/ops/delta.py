"""The gated delta rule, token by token and by blocks (Gated DeltaNet, arXiv 2412.06464).

    S_n = alpha_n (I - beta_n k_n^T k_n) S_{n-1} + beta_n k_n^T v_n          y_n = q_n S_n

with unit keys, alpha_n = exp(log_decay_n) in (0, 1] and beta_n in [0, 2]. Within a block the
products of the transitions are gathered by the WY form: the block's tokens act as if each added
k^T u with u = T beta (v - exp(G) k S), T = (I + tril(beta k k^T decay, -1))^-1. A token with
beta = 0 and log_decay = 0 leaves the state as it was.

Shape letters: B batch, T tokens, N heads, K key width, V value width, C blocks, L tokens of a
block.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from loomax.models.lm.ops.blocks import from_blocks, into_blocks, segments_into_blocks
from loomax.models.lm.ops.segments import boundaries
from loomax.models.lm.ops.triangular import unit_lower_inverse

Outputs = tuple[Float[Array, "B T N V"], Float[Array, "B N K V"]]


def recurrent(
    q: Float[Array, "B T N K"],
    k: Float[Array, "B T N K"],
    v: Float[Array, "B T N V"],
    beta: Float[Array, "B T N"],
    log_decay: Float[Array, "B T N"],
    state: Float[Array, "B N K V"],
) -> Outputs:
    """Token after token; float32."""

    def step(state, token):
        q, k, v, b, g = token
        state = jnp.exp(g)[..., None, None] * state
        error = v - jnp.einsum("bnk,bnkv->bnv", k, state)
        state = state + (b[..., None] * k)[..., :, None] * error[..., None, :]
        return state, jnp.einsum("bnk,bnkv->bnv", q, state)

    tokens = [jnp.moveaxis(x.astype(jnp.float32), 1, 0) for x in (q, k, v, beta, log_decay)]
    state, y = jax.lax.scan(step, state, tuple(tokens))
    return jnp.moveaxis(y, 0, 1), state


def chunkwise(
    q: Float[Array, "B T N K"],
    k: Float[Array, "B T N K"],
    v: Float[Array, "B T N V"],
    beta: Float[Array, "B T N"],
    log_decay: Float[Array, "B T N"],
    state: Float[Array, "B N K V"] | None = None,
    segments: Int[Array, "B T"] | None = None,
    *,
    chunk: int,
) -> Outputs:
    """By blocks of at most `chunk` tokens (rounded down to a power of two); float32 inside."""
    batch, length, heads, width = k.shape
    size = 1 << (min(chunk, max(length, 1)).bit_length() - 1)
    if state is None:
        state = jnp.zeros((batch, heads, width, v.shape[-1]), jnp.float32)
    wide = [x.astype(jnp.float32) for x in (q, k, v, beta, log_decay)]
    blocks = [jnp.moveaxis(into_blocks(x, size), 3, 2) for x in wide]
    edges = None if segments is None else boundaries(segments_into_blocks(segments, size))
    state, y = jax.lax.scan(_block, state, (*blocks, edges))
    return from_blocks(jnp.moveaxis(y, 2, 3), length), state


def _block(state: Float[Array, "B N K V"], block) -> tuple[Array, Float[Array, "B N L V"]]:
    """One block: its outputs and the state that leaves it."""
    q, k, v, beta, g, edges = block
    total = jnp.cumsum(g, axis=-1)
    size = total.shape[-1]
    seen = jnp.tril(jnp.ones((size, size), bool))
    reads, left, kept = jnp.exp(total), jnp.exp(total[..., -1:] - total), jnp.exp(total[..., -1])
    if edges is not None:
        seen = (seen & edges.same)[:, None]
        reads = jnp.where(edges.reads[:, None], reads, 0.0)
        left = jnp.where(edges.stays[:, None], left, 0.0)
        kept = jnp.where(edges.carries[:, None], kept, 0.0)
    gap = jnp.where(seen, total[..., :, None] - total[..., None, :], -jnp.inf)
    decay = jnp.exp(gap)
    clash = jnp.tril(beta[..., None] * (k @ k.swapaxes(-1, -2)) * decay, -1)
    wanted = v - reads[..., None] * (k @ state)
    update = unit_lower_inverse(clash) @ (beta[..., None] * wanted)
    y = reads[..., None] * (q @ state) + (q @ k.swapaxes(-1, -2) * decay) @ update
    added = (left[..., None] * k).swapaxes(-1, -2) @ update
    return kept[..., None, None] * state + added, y
