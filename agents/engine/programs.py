"""The compiled steps: one for each bucket and length of context, and copies between them."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import PyTree

from loomax.agents.engine.config import Drafter, EngineConfig, SpeculativeConfig
from loomax.agents.engine.sampling import choose
from loomax.agents.engine.sharding import store_on
from loomax.agents.engine.speculative.ahead import decoded_ahead, guesses_of_itself
from loomax.agents.engine.speculative.verify import verified
from loomax.agents.engine.store import (
    Batch,
    Store,
    closed,
    copied,
    empty_store,
    opened,
    restored,
    saved,
)
from loomax.models.lm import LMConfig
from loomax.models.lm.generate import extend
from loomax.runtime.mesh import on_mesh, replicated

Stores = tuple[Store, ...]
# Parameters of the model, and of the small one that guesses for it.
Params = tuple[PyTree, ...]


class Programs:
    """Functions of (params, stores, ...) that give the stores up and return them last.

    Args:
        models: the model, and the small one if there is one; unrolled.
        mesh: that parameters and stores are spread over, if they are.
    """

    def __init__(self, models: tuple[LMConfig, ...], mesh: Mesh | None = None):
        self.models, self.mesh = models, mesh
        self._where = None if mesh is None else tuple(store_on(model, mesh) for model in models)
        self.traced = 0
        self.empty = jax.jit(self._empty, static_argnums=0, out_shardings=self._where)
        self.extend = self._compiled(self._extend)
        self._verifying: dict[tuple[Drafter, int], Callable[..., Any]] = {}
        self.save, self.restore, self.copy = (
            self._compiled(_each(move)) for move in (saved, restored, copied)
        )

    def verify(self, config: SpeculativeConfig) -> Callable[..., Any]:
        """The step that verifies what a drafter guesses."""
        how = config.drafter, config.layers
        if how not in self._verifying:
            self._verifying[how] = self._compiled(partial(self._verify, *how))
        return self._verifying[how]

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(params, stores, *args):
            self.traced += 1
            with on_mesh(self.mesh):
                return function(params, stores, *args)

        # Stores come out as they went in, or the next call would be compiled anew.
        where = None if self.mesh is None else (replicated(self.mesh), self._where)
        return jax.jit(counted, donate_argnums=1, out_shardings=where)

    def _empty(self, config: EngineConfig) -> Stores:
        """Nothing cached yet."""
        return tuple(empty_store(model, config) for model in self.models)

    def _extend(self, params: Params, stores: Stores, batch: Batch) -> tuple[Any, Stores]:
        """Appends tokens; returns what follows each row's last one."""
        scores, after = [], []
        for model, p, store in zip(self.models, params, stores, strict=True):
            found, cached = extend(model, p, opened(model, store, batch), batch.tokens, batch.count)
            scores.append(found)
            after.append(closed(model, store, batch, cached))
        return choose(scores[0], batch.start + batch.count, batch.draws), tuple(after)

    def _verify(
        self, drafter: Drafter, layers: int, params: Params, stores: Stores, batch: Batch
    ) -> tuple[Any, Stores]:
        """Verifies guesses, which are made here unless they are given."""
        model, guesses = self.models[0], batch.tokens.shape[1] - 1
        first, active = batch.tokens[:, 0], jnp.minimum(batch.count, 1)
        opening = opened(model, stores[0], batch)
        given = (first, active, batch.draws, guesses)
        if drafter == "self":
            found, opening = guesses_of_itself(model, layers, params[0], opening, *given)
            batch = batch.replace(tokens=jnp.concatenate([first[:, None], found], axis=1))
        if drafter != "model":
            results, store = verified(model, params[0], stores[0], batch, opening)
            return results, (store,)
        small = self.models[1]
        ahead = opened(small, stores[1], batch)
        found, ahead = decoded_ahead(small, params[1], ahead, *given)
        batch = batch.replace(tokens=jnp.concatenate([first[:, None], found], axis=1))
        results, store = verified(model, params[0], stores[0], batch, opening)
        # The small model reads what stands, with its states as they were before it guessed.
        _, ahead = extend(small, params[1], ahead, batch.tokens, results[2])
        return results, (store, closed(small, stores[1], batch, ahead))


def _each(move: Callable[..., Store]) -> Callable[..., tuple[None, Stores]]:
    """A copy within every store."""

    def moved(params, stores, *pairs):
        del params
        return None, tuple(move(store, *pairs) for store in stores)

    return moved


@cache
def programs(models: tuple[LMConfig, ...], mesh: Mesh | None = None) -> Programs:
    """Programs that all engines of a kind share, so that each is compiled once in a process."""
    return Programs(models, mesh)
