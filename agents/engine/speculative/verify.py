"""One step that verifies guesses and takes back what is wrong.

Shape letters: R rows, T tokens: the last one that is known, and guesses behind it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from loomax.agents.engine.sampling import choose_each
from loomax.agents.engine.store import Batch, Store, closed, opened
from loomax.models.lm import LMConfig
from loomax.models.lm.generate import Cache, commit, verify


def accepted_of(
    tokens: Int[Array, "R T"], chosen: Int[Array, "R T"], count: Int[Array, " R"]
) -> Int[Array, " R"]:
    """How many tokens of each row stand: the known one and the guesses up to the first wrong one.

    Args:
        chosen: what the model draws behind each of `tokens`.
        count: real tokens of each row.
    """
    right: Bool[Array, "R T"] = tokens[:, 1:] == chosen[:, :-1]
    right &= jnp.arange(1, tokens.shape[1]) < count[:, None]
    return (jnp.cumprod(right, axis=1).sum(1) + (count > 0)).astype(jnp.int32)


def verified(
    model: LMConfig, params: PyTree, store: Store, batch: Batch, cache: Cache | None = None
) -> tuple[tuple[Int[Array, "R T"], Float[Array, "R T"], Int[Array, " R"]], Store]:
    """Tokens and log-probabilities behind each given token, how many of these stand, the store.

    The states advance over what stands only (see `models/lm`), so nothing has to be undone.

    Args:
        cache: of the rows, where somebody has opened it already.
    """
    cache = opened(model, store, batch) if cache is None else cache
    scores, draft = verify(model, params, cache, batch.tokens, batch.count)
    token, logprob = choose_each(scores, batch.start + 1, batch.draws)
    accepted = accepted_of(batch.tokens, token, batch.count)
    after = commit(model, cache, draft, accepted)
    return (token, logprob, accepted), closed(model, store, batch, after)
