"""What a policy reads as text: the instruction, and with `discrete_state` the state too (pi0.5).

openpi's prompt is "Task: {task}, State: {numbers};\\nAction: ", where each number of a state in
[-1, 1] is the number of its bin: 256 bins of equal width, 255 above the range and -1 below it.
Instructions are known ahead, states are not, so the pieces of all prompts are tokenised ahead and
put together inside the program.

Shape letters: B batch, P numbers of the state, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from loomax.models.tokenizer import Tokenizer

BINS = 256
# Lower edges of the bins; exact in float32.
EDGES = np.linspace(-1, 1, BINS + 1)[:-1]
ENDING = ";\nAction: "
# Longer than any prompt: pieces are measured before it is known what fits.
ROOM = 4096

Ids = tuple[int, ...]


def clean(task: str) -> str:
    """An instruction as openpi reads it: trimmed, spaces for underscores and line breaks."""
    return task.strip().replace("_", " ").replace("\n", " ")


def state_bins(state: Float[Array, "*B P"]) -> Int[Array, "*B P"]:
    """The bin of every number, -1 (below the range) to 255."""
    edges = jnp.asarray(EDGES, jnp.float32)
    return jnp.searchsorted(edges, state.astype(jnp.float32), side="right").astype(jnp.int32) - 1


def state_prompt(task: str, bins: Sequence[int]) -> str:
    """The text that pi0.5 reads for an instruction and the bins of a state."""
    return f"{_opening(task)}{''.join(map(_number, bins))}{ENDING}"


def _opening(task: str) -> str:
    return f"Task: {clean(task)}, State:"


def _number(number: int) -> str:
    return f" {number}"


@dataclass(frozen=True)
class Prompts:
    """The tokens of every prompt that a task can give.

    Args:
        length: tokens of a prompt, padding included.
        openings: by instruction: all of its tokens, or those before the state's.
        numbers: tokens of each bin from -1 to 255; none where the state is not in the text.
        ending: tokens behind the state's.
    """

    length: int
    openings: tuple[Ids, ...]
    numbers: tuple[Ids, ...] = ()
    ending: Ids = ()

    def tokens(
        self, said: Int[Array, " B"], state: Float[Array, "B P"]
    ) -> tuple[Int[Array, "B T"], Bool[Array, "B T"]]:
        """Ids and the mask of real ones, for use inside a program.

        Args:
            said: which instruction; state: in [-1, 1], without padding.
        """
        if not self.numbers:
            ids, real = _padded(self.openings, self.length)
            return jnp.asarray(ids)[said], jnp.asarray(real)[said]
        batch = said.shape[0]
        where = (
            (self.openings, said),
            (self.numbers, state_bins(state) + 1),
            ((self.ending,), jnp.zeros((batch,), jnp.int32)),
        )
        ids, real = [], []
        for rows, index in where:
            for found, part in zip((ids, real), _padded(rows), strict=True):
                found.append(jnp.asarray(part)[index].reshape(batch, -1))
        return _closed_up(jnp.concatenate(ids, 1), jnp.concatenate(real, 1), self.length)


def _padded(rows: tuple[Ids, ...], length: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one length (the longest's if it is 0), and which of their ids are real."""
    length = length or max(map(len, rows))
    ids = np.zeros((len(rows), length), np.int32)
    real = np.zeros((len(rows), length), bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)], real[index, : len(row)] = row, True
    return ids, real


def _closed_up(
    ids: Int[Array, "B N"], real: Bool[Array, "B N"], length: int
) -> tuple[Int[Array, "B T"], Bool[Array, "B T"]]:
    """The real ids side by side, behind them zeros."""
    place = jnp.where(real, jnp.cumsum(real, axis=1) - 1, length)
    empty = jnp.zeros((ids.shape[0], length), jnp.int32)
    closed = jax.vmap(lambda row, at, x: row.at[at].set(x, mode="drop"))(empty, place, ids)
    return closed, jnp.arange(length)[None] < real.sum(axis=1, keepdims=True)


def make_prompts(
    tokenizer: Tokenizer,
    instructions: Sequence[str],
    *,
    length: int,
    state_size: int = 0,
    vocab: int | None = None,
) -> Prompts:
    """Tokenises the instructions, and the pieces of pi0.5's prompt where a state belongs to it.

    Args:
        length: tokens that the model has room for.
        state_size: numbers of the state in the prompt; 0 leaves the instruction alone.
        vocab: ids that the model knows.

    Raises:
        ValueError: a prompt may need more tokens than fit, the tokenizer has more ids than the
            model, or it does not cut a prompt into the pieces that it is put together from.
    """
    if vocab is not None and tokenizer.vocab_size > vocab:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} ids and model.vocab is {vocab}; use at "
            "least that"
        )
    if not state_size:
        return Prompts(length, tuple(_ids(tokenizer, text, length) for text in instructions))
    prompts = Prompts(
        length,
        tuple(_ids(tokenizer, _opening(text)) for text in instructions),
        tuple(_ids(tokenizer, _number(number)) for number in range(-1, BINS)),
        _ids(tokenizer, ENDING),
    )
    longest = max(map(len, prompts.openings)) + len(prompts.ending)
    longest += state_size * max(map(len, prompts.numbers))
    if longest > length:
        raise ValueError(
            f"model.text_tokens is {length}; an instruction with a state of {state_size} numbers "
            f"in it takes up to {longest} tokens, so use at least that"
        )
    _check_pieces(tokenizer, instructions, prompts)
    return prompts


def _check_pieces(tokenizer: Tokenizer, instructions: Sequence[str], prompts: Prompts) -> None:
    """Refuses a tokenizer whose words reach from one piece into the next."""
    every = tuple(range(-1, BINS))
    for text, opening in zip(instructions, prompts.openings, strict=True):
        # The first instruction with every number, the others with one.
        bins = every if opening is prompts.openings[0] else every[-1:]
        pieces = [opening, *(prompts.numbers[number + 1] for number in bins), prompts.ending]
        if _ids(tokenizer, state_prompt(text, bins)) != sum(pieces, ()):
            raise ValueError(
                f"discrete_state puts prompts together from pieces, and this tokenizer "
                f"({type(tokenizer).__name__}) does not cut {state_prompt(text, bins[-1:])!r} at "
                "the spaces before its numbers; use another one"
            )


def _ids(tokenizer: Tokenizer, text: str, length: int = ROOM) -> Ids:
    ids, real = tokenizer.encode(text, length)
    return tuple(int(i) for i in ids[np.asarray(real)])
