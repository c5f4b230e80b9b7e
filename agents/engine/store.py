"""The device's memory of all requests, and its view as a cache of `models/lm`.

Full attention and the global KV of a decoder-decoder lie in pages that all requests share; the
states of recurrent mixers (rings of sliding windows too) have a row a slot, and further rows for
snapshots.

Shape letters: R rows of a step, T tokens, W pages of a row.
"""

from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int

from loomax.agents.engine.config import EngineConfig
from loomax.agents.engine.sampling import Draws
from loomax.models.lm import LMConfig, kv
from loomax.models.lm.config import FULL_ATTENTION
from loomax.models.lm.generate import Cache, empty_cache


@struct.dataclass
@no_type_check  # the same fields also hold shapes and shardings
class Store:
    """Everything that is cached for one model.

    Args:
        states: of each loop and layer: pages, or recurrent states of the slots.
        shared: pages of the one global KV of a decoder-decoder.
        snapshots: as `states`, where these are recurrent.
    """

    states: Any
    shared: kv.KV | None
    snapshots: Any


@struct.dataclass
@no_type_check  # also holds NumPy arrays on their way to the device
class Batch:
    """The rows of one call; a row without tokens has count 0.

    Args:
        start: tokens before these.
        table: pages of each row, out of range where there are none.
        slot: of each row, out of range where there is none.
    """

    tokens: Int[Array, "R T"]
    count: Int[Array, " R"]
    start: Int[Array, " R"]
    table: Int[Array, "R W"]
    slot: Int[Array, " R"]
    draws: Draws


def recurrent(model: LMConfig) -> bool:
    """Whether the self layers have states that do not grow."""
    return model.mixer not in FULL_ATTENTION


def empty_store(model: LMConfig, config: EngineConfig) -> Store:
    """Nothing cached yet. The model's layers have to be unrolled (see `LMConfig.unroll`)."""
    paged = empty_cache(model, config.pages, config.page)
    if not recurrent(model):
        return Store(paged.states, paged.shared, ())
    # The first snapshot is the state before any token.
    rows = (config.slots, config.snapshots + 1)
    slots, snapshots = (empty_cache(model, count, 1).states for count in rows)
    return Store(slots, paged.shared, snapshots)


def opened(model: LMConfig, store: Store, batch: Batch) -> Cache:
    """The cache of a call's rows; with as many rows as slots, a row is its slot's."""

    def pages(pool):
        return kv.PagedKV(pool.keys, pool.values, pool.key_scale, pool.value_scale, batch.table)

    def rows(x):
        if x.shape[0] == batch.slot.shape[0]:
            return x
        return jnp.take(x, batch.slot, axis=0, mode="clip")

    if recurrent(model):
        states = jax.tree.map(rows, store.states)
    else:
        states = tuple(tuple(pages(pool) for pool in loop) for loop in store.states)
    return Cache(batch.start, states, None if store.shared is None else pages(store.shared))


def closed(model: LMConfig, store: Store, batch: Batch, cache: Cache) -> Store:
    """The store after a call; rows without tokens are as they were."""

    def pool(pages):
        return kv.KV(pages.keys, pages.values, pages.key_scale, pages.value_scale)

    def rows(old, new):
        if old.shape[0] == batch.slot.shape[0]:
            return new
        return old.at[batch.slot].set(new, mode="drop")

    if recurrent(model):
        states = jax.tree.map(rows, store.states, cache.states)
    else:
        states = tuple(tuple(pool(pages) for pages in loop) for loop in cache.states)
    shared = None if cache.shared is None else pool(cache.shared)
    return Store(states, shared, store.snapshots)


def saved(store: Store, slots: Int[Array, " R"], snapshots: Int[Array, " R"]) -> Store:
    """Copies states of slots to snapshots; pairs out of range are dropped."""
    if not store.snapshots:
        return store
    return store.replace(snapshots=_moved(store.states, slots, store.snapshots, snapshots))


def restored(store: Store, snapshots: Int[Array, " R"], slots: Int[Array, " R"]) -> Store:
    """Copies snapshots to states of slots; pairs out of range are dropped."""
    if not store.snapshots:
        return store
    return store.replace(states=_moved(store.snapshots, snapshots, store.states, slots))


def copied(store: Store, source: Int[Array, " R"], target: Int[Array, " R"]) -> Store:
    """Copies pages, in every layer that has some; pairs out of range are dropped."""
    shared = _moved(store.shared, source, store.shared, target)
    if store.snapshots:
        return store.replace(shared=shared)
    return store.replace(states=_moved(store.states, source, store.states, target), shared=shared)


def _moved(old: Any, source: Array, new: Any, target: Array) -> Any:
    """Rows `target` of `new` become rows `source` of `old`."""

    def move(old, new):
        return new.at[target].set(jnp.take(old, source, axis=0, mode="clip"), mode="drop")

    return jax.tree.map(move, old, new)
