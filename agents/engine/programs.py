"""The compiled steps: one for each bucket and length of context, and copies between them."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from loomax.agents.engine.config import Drafter, SpeculativeConfig
from loomax.agents.engine.sampling import choose
from loomax.agents.engine.speculative.ahead import decoded_ahead, guesses_of_itself
from loomax.agents.engine.speculative.verify import verified
from loomax.agents.engine.store import Batch, Store, closed, copied, opened, restored, saved
from loomax.models.lm import LMConfig
from loomax.models.lm.generate import extend

Stores = tuple[Store, ...]
# Parameters of the model, and of the small one that guesses for it.
Params = tuple[PyTree, ...]


class Programs:
    """Functions of (params, stores, ...) that give the stores up and return them last.

    Args:
        models: the model, and the small one if there is one; unrolled.
    """

    def __init__(self, models: tuple[LMConfig, ...]):
        self.models = models
        self.traced = 0
        self.extend = self._compiled(self._extend)
        self._verifying: dict[tuple[Drafter, int], Callable[..., Any]] = {}
        self.save = self._compiled(_each(saved))
        self.restore = self._compiled(_each(restored))
        self.copy = self._compiled(_each(copied))

    def verify(self, config: SpeculativeConfig) -> Callable[..., Any]:
        """The step that verifies what a drafter guesses."""
        how = config.drafter, config.layers
        if how not in self._verifying:
            self._verifying[how] = self._compiled(partial(self._verify, *how))
        return self._verifying[how]

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(params, stores, *args):
            self.traced += 1
            return function(params, stores, *args)

        return jax.jit(counted, donate_argnums=1)

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


def _each(move: Callable[..., Store]) -> Callable[..., Stores]:
    """A copy within every store."""

    def moved(params, stores, *pairs):
        del params
        return tuple(move(store, *pairs) for store in stores)

    return moved


@cache
def programs(models: tuple[LMConfig, ...]) -> Programs:
    """Programs that all engines of a kind share, so that each is compiled once in a process."""
    return Programs(models)
