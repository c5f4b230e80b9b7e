"""A process's rows of every batch, out of streams that any number of processes can share.

The rows of a batch come from `count` streams, the same number from each, one after the other. A
process reads the streams that its rows are in, and drops what is not its own. So a run goes on with
another number of processes, and reads what it would have read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from loomax.agents.pretrain.data import Rows


@runtime_checkable
class Stream(Protocol):
    """Endless batches of rows that can go on from where they stood."""

    def __iter__(self) -> Iterator[Rows]: ...

    def __next__(self) -> Rows: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


class Streams:
    """An endless iterator of one process's rows.

    Args:
        open_stream: (number, rows) to a stream that gives as many rows at a time.
        count: streams of a batch.
        batch: rows of a batch.
        mine: numbers of this process's rows, in order.

    Raises:
        ValueError: the batch cannot be divided between the streams.
    """

    def __init__(
        self,
        open_stream: Callable[[int, int], Stream],
        count: int,
        batch: int,
        mine: Sequence[int],
    ):
        if count < 1 or batch % count:
            raise ValueError(
                f"a batch of {batch} rows cannot come from {count} streams of documents: give "
                "batches whose rows are a multiple of data.streams (or of the processes that the "
                "run was started with)"
            )
        each = batch // count
        self._parts = {
            number: [row % each for row in mine if row // each == number]
            for number in dict.fromkeys(row // each for row in mine)
        }
        self._streams = {number: open_stream(number, each) for number in self._parts}

    def __iter__(self) -> Iterator[Rows]:
        return self

    def __next__(self) -> Rows:
        read = [
            Rows(*(array[self._parts[number]] for array in next(stream)))
            for number, stream in self._streams.items()
        ]
        return Rows(*map(np.concatenate, zip(*read, strict=True)))

    def state(self) -> dict[str, Any]:
        """Where each stream stands, by its number."""
        return {str(number): stream.state() for number, stream in self._streams.items()}

    def restore(self, states: Mapping[str, Any]) -> None:
        """Goes on from where the streams stood, whoever read them.

        Raises:
            ValueError: they were cut in another way.
        """
        for number, stream in self._streams.items():
            stream.restore(states[str(number)])
