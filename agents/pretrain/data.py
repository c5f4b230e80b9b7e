"""Documents to packed rows of tokens, by grain: shuffled, shared out, resumable.

A row is cut from the endless sequence of documents, so nothing is padded and a document may go on
in the next row. The first token of a row is given and not predicted.

Shape letters: B rows, T tokens of a row (one more than are predicted).
"""

from collections.abc import Iterator
from dataclasses import astuple
from itertools import islice
from typing import Any, NamedTuple

import grain
import numpy as np
from grain.experimental import ConcatThenSplitIterDataset
from jaxtyping import Float, Int

from loomax.agents.pretrain.config import DataConfig
from loomax.agents.pretrain.documents import Documents
from loomax.agents.pretrain.needles import Rewrite
from loomax.agents.pretrain.tokens import encoder


class Rows(NamedTuple):
    """Packed documents.

    Args:
        segments: numbers the documents of a row from 1; 0 is padding.
        weights: how much each token counts when it is predicted.
    """

    tokens: Int[np.ndarray, "B T"]
    segments: Int[np.ndarray, "B T"]
    weights: Float[np.ndarray, "B T"]


class Batches:
    """An endless iterator of one share of each batch's rows.

    Every epoch has another order, and every document is read by one share.

    Args:
        length: tokens that are predicted in a row.
        rows: of each batch, in this share.
        share: this one's number, and how many there are.

    Raises:
        ValueError: there are fewer documents than shares.
    """

    def __init__(
        self,
        documents: Documents,
        config: DataConfig,
        *,
        length: int,
        rows: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ):
        number, shares = share
        if len(documents.train) < shares:
            raise ValueError(
                f"{len(documents.train)} documents do not go round {shares} streams, of which "
                "each process has one: give more, smaller documents, or a smaller data.streams"
            )
        self._made = {"length": length, "seed": seed, "share": list(share)}
        order = grain.MapDataset.source(documents.train).seed(seed).shuffle()
        tokens = _tokens(order[number::shares].repeat(), documents, config)
        packed = _packed(tokens, length)
        if config.needles.share:
            rewrite = Rewrite(encoder(config.tokenizer), *astuple(config.needles))
            packed = packed.seed(seed + number).random_map(rewrite)
        self._rows = iter(packed.batch(rows, drop_remainder=True))

    def __iter__(self) -> Iterator[Rows]:
        return self

    def __next__(self) -> Rows:
        return _rows_of(next(self._rows))

    def state(self) -> dict[str, Any]:
        """Where the iterator stands, as JSON can hold it."""
        return {"made": self._made, "at": self._rows.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a state, after JSON too.

        Raises:
            ValueError: it is the state of rows that were made in another way.
        """
        if state["made"] != self._made:
            raise ValueError(
                f"the checkpoint stands in data that were cut as {state['made']}, not as "
                f"{self._made}: go on with the same lengths and seed"
            )
        self._rows.set_state(_with_tuples(state["at"]))


def held_out_rows(
    documents: Documents,
    config: DataConfig,
    numbers: tuple[int, ...],
    *,
    length: int,
    rows: int,
    most: int = 0,
) -> list[Rows]:
    """Batches of the documents with these numbers, each once, in order.

    Args:
        rows: of each batch; the last one is filled up with padding.
        most: rows in all; 0 takes every one.
    """
    packed = _packed(_tokens(grain.MapDataset.source(numbers), documents, config), length)
    kept = list(islice(packed, most or None))
    batches = []
    for start in range(0, len(kept), rows):
        part = [_rows_of(row) for row in kept[start : start + rows]]
        short = rows - len(part)
        stacked = (np.stack(arrays) for arrays in zip(*part, strict=True))
        batches.append(Rows(*(np.pad(array, ((0, short), (0, 0))) for array in stacked)))
    return batches


def _tokens(numbers: grain.MapDataset, documents: Documents, config: DataConfig):
    """Tokens of numbered documents, read a little ahead by two threads."""
    encode = encoder(config.tokenizer)
    read = numbers.map(lambda number: {"tokens": encode(documents[number])})
    return read.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=16))


def _packed(tokens: grain.IterDataset, length: int) -> grain.IterDataset:
    return ConcatThenSplitIterDataset(tokens, length_struct={"tokens": length + 1})


def _rows_of(element: dict[str, np.ndarray]) -> Rows:
    tokens, segments = element["tokens"], element["tokens_segment_ids"]
    weights = element.get("weights", np.ones(tokens.shape, np.float32))
    return Rows(tokens, segments, weights)


def _with_tuples(state: Any) -> Any:
    """Lists made tuples again: grain compares the cut of a document with (-1, -1)."""
    if isinstance(state, dict):
        return {name: _with_tuples(value) for name, value in state.items()}
    return tuple(map(_with_tuples, state)) if isinstance(state, list) else state
