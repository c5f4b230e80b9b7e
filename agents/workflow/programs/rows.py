"""Rows of tokens that grow by what a model writes and by what it is given to read.

Shape letters: B rows, T tokens of one, P tokens of a prompt, N new tokens.
"""

from typing import no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Int, Key, PyTree

from loomax.models.lm.config import LMConfig
from loomax.models.lm.generate import decode, prefill


@struct.dataclass
@no_type_check  # also holds shapes, and NumPy arrays of a stage on the host
class Rows:
    """Rows of any length up to T.

    Args:
        written: tokens that the model wrote.
    """

    tokens: Int[Array, "B T"]
    written: Bool[Array, "B T"]
    length: Int[Array, " B"]


def begin(prompts: Int[Array, "B P"], room: int) -> Rows:
    """Prompts with room for so many tokens behind them."""
    tokens = jnp.pad(prompts, ((0, 0), (0, room)))
    length = jnp.full(len(prompts), prompts.shape[1], jnp.int32)
    return Rows(tokens, jnp.zeros(tokens.shape, bool), length)


def last(rows: Rows) -> Int[Array, " B"]:
    """The last token of each row."""
    return jnp.take_along_axis(rows.tokens, rows.length[:, None] - 1, axis=1)[:, 0]


def append(rows: Rows, new: Int[Array, "B N"], goes_on: Bool[Array, " B"], written: bool) -> Rows:
    """The same tokens behind every row that goes on."""
    tokens, mask = jnp.asarray(rows.tokens), jnp.asarray(rows.written)
    first = jnp.where(goes_on, rows.length, tokens.shape[1])
    place = jnp.arange(len(tokens))[:, None], first[:, None] + jnp.arange(new.shape[1])
    return Rows(
        tokens.at[place].set(new, mode="drop"),
        mask.at[place].set(written, mode="drop"),
        rows.length + new.shape[1] * goes_on.astype(jnp.int32),
    )


def write(
    model: LMConfig,
    params: PyTree,
    rows: Rows,
    keys: Key[Array, " B"],
    *,
    new: int,
    ends: tuple[int, ...],
) -> Rows:
    """Samples up to `new` tokens behind each row, to one of `ends`; rows that end so stay."""

    def step(carry, _):
        scores, cache, rows = carry
        # Every position has noise of its own, so that turns may share a key.
        each = jax.vmap(jax.random.fold_in)(keys, rows.length)
        token = jax.vmap(jax.random.categorical)(each, scores).astype(jnp.int32)
        goes_on = ~jnp.isin(last(rows), jnp.array(ends))
        rows = append(rows, token[:, None], goes_on, written=True)
        return (*decode(model, params, cache, token, goes_on.astype(jnp.int32)), rows), None

    start = prefill(model, params, rows.tokens, rows.length, slots=rows.tokens.shape[1])
    return jax.lax.scan(step, (*start, rows), length=new)[0][-1]
