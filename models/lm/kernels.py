"""Picks an implementation of the sequence operations: the only place that asks for the platform.

    attention over whole rows   splash attention on TPU; elsewhere all scores at once while they
                                are small, else key blocks
    sliding window over rows    splash attention on TPU, blocks of a window elsewhere
    attention over a cache      all scores at once while they are small, else key blocks
    a few queries over pages    our Pallas kernel on TPU; elsewhere the pages are gathered first
    gated retention             our Pallas kernel on TPU, chunked XLA elsewhere
    layout between layers       tokens are rows on TPU, the compiler's choice elsewhere

Kernels take what tiles; other shapes and rings stay with XLA. Where a mesh is known, each device
runs a kernel on its own rows and heads, since the compiler cannot split one.

Shape letters: B batch, T tokens, S slots, R slots of a ring, N query heads, K key-value heads, H
key width, V value width.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from loomax.models.attention import attend
from loomax.models.lm import kv
from loomax.models.lm.ops import retention as retention_ops
from loomax.models.lm.ops import splash
from loomax.models.lm.ops.attend import Places, quantised, visible
from loomax.models.lm.ops.blockwise import blockwise
from loomax.models.lm.ops.local import windowed
from loomax.models.lm.positions import Turns
from loomax.models.lm.span import Span, positions, valid
from loomax.runtime.compile import target_platform
from loomax.runtime.mesh import LogicalAxes, logical_spec

# Scores of up to this many key-query pairs of one row are held at once.
DENSE_PAIRS = 1 << 20
# Decoding: so few queries that their scores never weigh much, however long the cache.
FEW_QUERIES = 16

# "interpret" runs in XLA what the Pallas kernel would do: for tests.
Implementation = Literal["xla", "pallas", "interpret"]

# Logical axes of queries, keys, values and outputs.
HEADS = ("batch", None, "heads", None)


def attend_rows(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K V"],
    span: Span,
    *,
    scale: float,
    implementation: Implementation | None = None,
) -> Float[Array, "B T N V"]:
    """Causal attention of whole rows to themselves, within documents."""
    length = q.shape[1]
    how = implementation or _splash_or_xla(q, v)
    if how != "xla":
        # Padding comes last, so no real token sees it.
        return _splash(q, k, v, span.segments, None, scale, how == "interpret")
    at = jnp.where(valid(span, length), positions(span, length), -1)
    return _attend(q, k, v, Places(at, span.segments), Places(at, span.segments), scale)


def attend_window(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K H"],
    places: Places,
    past: tuple[Float[Array, "B R K H"], Float[Array, "B R K H"], Int[Array, "B R"]] | None,
    *,
    window: int,
    scale: float,
    implementation: Implementation | None = None,
) -> Float[Array, "B T N H"]:
    """Sliding-window attention of rows, behind a ring of earlier keys where there is a past.

    Args:
        places: consecutive positions; padding, at -1, comes last.
    """
    how = implementation or ("xla" if past is not None else _splash_or_xla(q, v))
    if how != "xla":
        return _splash(q, k, v, places.segments, window, scale, how == "interpret")
    return windowed(q, k, v, places, past, window=window, scale=scale)


def attend_cached(
    q: Float[Array, "B T N H"],
    store: kv.KV,
    span: Span,
    *,
    scale: float,
    implementation: Implementation | None = None,
) -> Float[Array, "B T N V"]:
    """A block of queries at `span` to everything stored up to each of them.

    Args:
        implementation: of attention to pages; only "xla" reads int8 ones, or rows.
    """
    if isinstance(store, kv.PagedKV):
        how = implementation or _pages_or_xla(q, store)
        if how != "xla":
            return _paged(q, store, span, scale, how == "interpret")
        store = kv.gathered(store)
    at = positions(span, q.shape[1])
    slots = jnp.arange(store.slots, dtype=at.dtype)
    # What lies behind the newest token is of no sequence, and no query's position reaches it.
    where = jnp.broadcast_to(slots, (q.shape[0], store.slots))
    if store.key_scale is not None and q.shape[1] <= FEW_QUERIES:
        return quantised(q, store, visible(Places(at), Places(where)), scale)
    keys, values = kv.read(store, q.dtype)
    return _attend(q, keys, values, Places(at), Places(where), scale)


def _pages_or_xla(q: Array, store: kv.PagedKV) -> Implementation:
    if target_platform() != "tpu" or store.key_scale is not None or q.shape[1] > FEW_QUERIES:
        return "xla"
    from loomax.models.lm.ops import paged_kernel

    _, page, heads, _ = store.keys.shape
    here = _share("heads", heads)
    queries = q.shape[1] * q.shape[2] * here // heads
    widths = (store.keys.shape[-1], store.values.shape[-1])
    sizes = (store.table.shape, (page, here), widths, store.keys.dtype.itemsize)
    fits = paged_kernel.tiles(queries, *sizes)
    return "pallas" if fits else "xla"


def _paged(q: Array, store: kv.PagedKV, span: Span, scale: float, interpret: bool) -> Array:
    from loomax.models.lm.ops import paged_kernel

    def local(*parts):
        return paged_kernel.attend(*parts, scale=scale, interpret=interpret)

    arrays = (q, store.keys, store.values, store.table, span.start, span.count)
    pages, rows = (None, None, "heads", None), HEADS[:1]
    return _on_each_device(local, arrays, (HEADS, pages, pages, HEADS[:2], rows, rows), HEADS)


def _attend(q: Array, k: Array, v: Array, queries: Places, keys: Places, scale: float) -> Array:
    if q.shape[1] <= FEW_QUERIES or q.shape[1] * k.shape[1] <= DENSE_PAIRS:
        return attend(q, k, v, visible(queries, keys), scale)
    return blockwise(q, k, v, queries, keys, scale)


def retention(
    q: Float[Array, "B T N K"],
    k: Float[Array, "B T N K"],
    v: Float[Array, "B T N V"],
    log_decay: Float[Array, "B T N"],
    state: Float[Array, "B N K V"] | None,
    segments: Int[Array, "B T"] | None,
    turns: Turns | None = None,
    *,
    chunk: int,
    scale: float = 1.0,
    epsilon: float | None = None,
    implementation: Implementation | None = None,
) -> tuple[Float[Array, "B T N V"], Float[Array, "B N K V"]]:
    """Gated retention of a block of tokens from a state; see `ops.retention.prepared`."""
    how = implementation or _kernel_or_xla(k, v, chunk)
    given = {"chunk": chunk, "scale": scale, "epsilon": epsilon}
    if how == "xla":
        return retention_ops.prepared(q, k, v, log_decay, state, segments, turns, **given)
    # Loading Pallas takes a second, which only its users wait for.
    from loomax.models.lm.ops import retention_kernel

    def local(*parts):
        return retention_kernel.chunkwise(*parts, **given, interpret=how == "interpret")

    states = ("batch", "heads", None, None)
    table = None if turns is None else jnp.concatenate(turns, axis=-1)
    arrays = (q, k, v, log_decay, state, segments, table)
    names = (HEADS, HEADS, HEADS, HEADS[:3], states, HEADS[:2], HEADS[:2] + (None,))
    return _on_each_device(local, arrays, names, (HEADS, states))


def _kernel_or_xla(k: Array, v: Array, chunk: int) -> Implementation:
    if target_platform() != "tpu":
        return "xla"
    from loomax.models.lm.ops import retention_kernel

    fits = retention_kernel.tiles(k.shape[1], (k.shape[-1], v.shape[-1]), chunk)
    return "pallas" if fits else "xla"


def _splash_or_xla(q: Array, v: Array) -> Implementation:
    fits = splash.tiles(q.shape[1], (q.shape[-1], v.shape[-1]))
    return "pallas" if fits and target_platform() == "tpu" else "xla"


def _splash(
    q: Array,
    k: Array,
    v: Array,
    segments: Array | None,
    window: int | None,
    scale: float,
    interpret: bool,
) -> Array:
    def local(*parts):
        return splash.attend(*parts, window=window, scale=scale, interpret=interpret)

    return _on_each_device(local, (q, k, v, segments), (HEADS, HEADS, HEADS, HEADS[:2]), HEADS)


def row_major(x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    """x, each token's numbers side by side in memory.

    Left to itself the TPU compiler turns the residual stream around for the norm of its rows, and
    back again for the next layer's kernel: two more passes over it in every layer.
    """
    if target_platform() != "tpu":
        return x
    return with_layout_constraint(x, Layout((0, 1, 2)))


def _on_each_device(local: Callable, arrays: tuple, names: tuple, outputs: tuple) -> Any:
    """`local` on every device's share of the arrays, where the program is traced on a mesh.

    A logical axis that does not divide, in any of the arrays, is not split: each device then does
    all of it.

    Args:
        names: logical axes of each array; outputs: those of each output.
    """
    mesh = jax.sharding.get_abstract_mesh()
    free = set(mesh.axis_names) - set(mesh.manual_axes)
    if math.prod(mesh.shape[axis] for axis in free) == 1:
        return local(*arrays)
    lengths: dict[str, int] = {}
    for x, axes in zip(arrays, names, strict=True):
        for length, name in zip(x.shape if x is not None else (), axes, strict=False):
            if name is not None:
                lengths[name] = math.gcd(length, lengths.get(name, 0))
    split = {name: _mesh_axes(name, length, mesh, free) for name, length in lengths.items()}

    def spec(axes):
        return PartitionSpec(*(split[name] if name is not None else None for name in axes))

    return jax.shard_map(
        local,
        in_specs=tuple(spec(axes) for axes in names),
        out_specs=jax.tree.map(spec, outputs, is_leaf=lambda x: x[0] == "batch"),
        axis_names=free,
        check_vma=False,
    )(*arrays)


def _mesh_axes(name: str, length: int, mesh: Any, free: set[str]) -> tuple[str, ...] | None:
    """The mesh axes that a logical axis of this length is spread over; all of them, or none."""
    (physical,) = logical_spec(LogicalAxes(), name)
    every = (physical,) if isinstance(physical, str) else physical or ()
    used = tuple(axis for axis in every if axis in free)
    return None if length % math.prod(mesh.shape[axis] for axis in used) else used


def _share(name: str, length: int) -> int:
    """What `_on_each_device` leaves each device of a logical axis of this length."""
    mesh = jax.sharding.get_abstract_mesh()
    used = _mesh_axes(name, length, mesh, set(mesh.axis_names) - set(mesh.manual_axes))
    return length // math.prod(mesh.shape[axis] for axis in used or ())
