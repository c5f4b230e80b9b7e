"""Rows do not depend on how many processes read them, also after one number became another."""

import json

import numpy as np
import pytest

from loomax.agents.pretrain.data import Rows
from loomax.agents.pretrain.streams import Streams

BATCH = 8


class Counter:
    """A stream whose rows say which one it is and where it stands."""

    def __init__(self, number, rows):
        self.number, self.rows, self.at = number, rows, 0

    def __next__(self):
        rows = 100 * self.number + self.at + np.arange(self.rows)
        self.at += self.rows
        return Rows(*(rows[:, None].astype(kind) for kind in (int, int, float)))

    def state(self):
        return {"number": self.number, "at": self.at}

    def restore(self, state):
        assert state["number"] == self.number
        self.at = state["at"]


def read(processes, streams, steps, states=None):
    """Whole batches, and where the streams stand, when so many processes read them."""
    parts = np.split(np.arange(BATCH), processes)
    readers = [Streams(Counter, streams, BATCH, part.tolist()) for part in parts]
    if states is not None:
        for reader in readers:
            reader.restore(states)
    batches = [np.concatenate([next(r).tokens[:, 0] for r in readers]) for _ in range(steps)]
    return batches, json.loads(json.dumps({k: v for r in readers for k, v in r.state().items()}))


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_any_number_of_processes_reads_the_same_rows(processes):
    np.testing.assert_array_equal(read(processes, 2, 3)[0], read(2, 2, 3)[0])


def test_a_batch_has_the_streams_one_after_the_other():
    first, second = read(1, 2, 2)[0]
    assert list(first) == [0, 1, 2, 3, 100, 101, 102, 103]
    assert list(second) == [4, 5, 6, 7, 104, 105, 106, 107]


@pytest.mark.parametrize("before, after", [(2, 4), (4, 1), (1, 8)])
def test_a_run_goes_on_with_another_number_of_processes(before, after):
    whole = read(1, 4, 4)[0]
    started, states = read(before, 4, 2)
    assert len(states) == 4
    np.testing.assert_array_equal([*started, *read(after, 4, 2, states)[0]], whole)


def test_rows_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="8 rows cannot come from 3 streams"):
        Streams(Counter, 3, BATCH, [0])
