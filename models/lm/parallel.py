"""Whole rows whose tokens are spread over the mesh axis `context`: training and scoring.

Each of C devices has T / C of a row's T tokens. In the self-decoder only states go from shard to
shard (see `handover`); keys and values are gathered once for all cross layers (YOCO, arXiv
2405.05254, appendix A). A Transformer gathers them in every layer. The batch lies over (replica,
fsdp); parameters are whole on every device while these run.

Shape letters: B batch, T tokens, D width.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PyTree

from loomax.models.lm import forward, loss
from loomax.models.lm.config import LMConfig
from loomax.models.lm.forward import embed
from loomax.models.lm.handover import MIX, attend_row
from loomax.models.lm.loss import TokenLoss, cross_entropy
from loomax.models.lm.shard import Shard
from loomax.models.lm.stack import cross_layers, global_keys_values, normed, self_layers
from loomax.runtime.mesh import CONTEXT, FSDP, REPLICA, TENSOR

WHOLE = PartitionSpec()
ROWS = PartitionSpec((REPLICA, FSDP))
TOKENS = PartitionSpec((REPLICA, FSDP), CONTEXT)
EACH = PartitionSpec((REPLICA, FSDP, CONTEXT))


def hidden_states(
    config: LMConfig,
    params: PyTree,
    tokens: Int[Array, "B T"],
    segments: Int[Array, "B T"] | None = None,
    *,
    mesh: Mesh,
) -> Float[Array, "B T D"]:
    """`forward.hidden_states`, spread over the mesh by batch and length.

    Raises:
        ValueError: the mesh does not fit the rows; see `shards_of`.
    """
    shards = shards_of(config, tokens.shape, mesh)
    if shards == 1:
        return forward.hidden_states(config, params, tokens, segments)

    def local(params, tokens, segments):
        return _hidden(config, params, tokens, _shard(shards, tokens, segments))

    return _mapped(local, mesh, (WHOLE, TOKENS, ROWS), TOKENS)(params, tokens, segments)


def next_token_loss(
    config: LMConfig,
    params: PyTree,
    tokens: Int[Array, "B T"],
    segments: Int[Array, "B T"] | None = None,
    counted: Bool[Array, "B T"] | Float[Array, "B T"] | None = None,
    *,
    mesh: Mesh,
) -> TokenLoss:
    """`loss.next_token_loss`; it is T, not T - 1, that `context` has to divide.

    Raises:
        ValueError: the mesh does not fit the rows; see `shards_of`.
    """
    shards = shards_of(config, tokens.shape, mesh)
    if shards == 1:
        return loss.next_token_loss(config, params, tokens, segments, counted)
    # Shifted before they are split: a shard's last target is the first token of the next one.
    targets = jnp.roll(tokens, -1, axis=1)
    kept = jnp.ones(tokens.shape) if counted is None else jnp.roll(counted, -1, axis=1)
    if segments is not None:
        kept *= jnp.roll(segments, -1, axis=1) == segments
    kept = kept.astype(jnp.float32).at[:, -1].set(0)

    def local(params, tokens, segments, targets, kept):
        hidden = _hidden(config, params, tokens, _shard(shards, tokens, segments))
        sums = cross_entropy(config, params, hidden, targets, kept)
        return jax.tree.map(lambda x: x[None], sums)

    run = _mapped(local, mesh, (WHOLE, TOKENS, ROWS, TOKENS, TOKENS), EACH)
    return jax.tree.map(jnp.sum, run(params, tokens, segments, targets, kept))


def shards_of(config: LMConfig, shape: tuple[int, int], mesh: Mesh) -> int:
    """Into how many shards a mesh splits each row of a batch of this shape [B, T].

    Raises:
        ValueError: the mesh has no axis `context` or a `tensor` axis above 1, it does not divide
            the batch or the rows, or a shard is shorter than what a mixer looks back: that is all
            in the one shard before.
    """
    (batch, length), sizes = shape, dict(mesh.shape)
    if CONTEXT not in sizes:
        raise ValueError(f"a mesh of axes {', '.join(sizes)} has no {CONTEXT!r}: use make_mesh")
    shards = sizes[CONTEXT]
    if shards == 1:
        return shards
    if sizes.get(TENSOR, 1) > 1:
        raise ValueError(f"mesh.tensor is {sizes[TENSOR]} with mesh.context {shards}: make it 1")
    rows = sizes[REPLICA] * sizes[FSDP]
    if batch % rows:
        raise ValueError(f"{rows} devices (replica x fsdp) do not divide a batch of {batch} rows")
    if length % shards:
        raise ValueError(
            f"mesh.context {shards} does not divide rows of {length} tokens: pad them to "
            f"{length + -length % shards}"
        )
    name, least = _look_back(config)
    if length // shards < least:
        raise ValueError(
            f"{name} is {least}, but mesh.context {shards} leaves shards of {length // shards} "
            f"tokens: use rows of at least {least * shards} tokens or a smaller mesh.context"
        )
    return shards


def _look_back(config: LMConfig) -> tuple[str, int]:
    """The setting that bounds the length of a shard from below, and the bound."""
    if config.mixer == "sliding_window":
        return "window", config.window
    if config.mixer == "gated_deltanet":
        return "conv", config.conv
    return "length", 1


def _shard(shards: int, tokens: Array, segments: Array | None) -> Shard:
    batch, length = tokens.shape
    return Shard(CONTEXT, shards, jax.lax.axis_index(CONTEXT), batch, length, segments)


def _hidden(config: LMConfig, params: PyTree, tokens: Array, shard: Shard) -> Array:
    """`forward.hidden_states` of one shard."""
    span, scale = shard.span, config.head_dim**-0.5
    x, mix = embed(config, params, tokens), partial(MIX[config.mixer], shard)
    x, _, _ = self_layers(config, params, x, None, span, mix=mix)
    if config.decoder_decoder:
        keys, values = map(shard.gather, global_keys_values(config, params, x, span))

        def read(q):
            return attend_row(shard, q, keys, values, scale)

        x = cross_layers(config, params, x, read, span)
    return normed(config, x, params["norm"])


def _mapped(local: Callable, mesh: Mesh, inputs: Any, outputs: Any) -> Callable:
    # All axes are ours: with some left to the compiler it gathers the batch for every message.
    return jax.shard_map(local, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
