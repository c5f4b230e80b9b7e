"""The loop in a log of requests: its length, and how long each of its buffers lives.

Time counts requests: a buffer born with request i that is freed before request j lives in [i, j).
Threads race, so that two rounds of a loop may differ in their order. Imports no JAX.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loomax.memory.lifetimes.log_file import OPEN
from loomax.memory.lifetimes.trace import Trace

# Fewer rounds are no loop.
ROUNDS = 3
# Only the end of a long log is looked at, and only for loops up to this length: the search takes
# their product.
MOST_REQUESTS, MOST_LENGTH = 50_000, 8_192
# A shorter loop is preferred to one that explains this much more of the log.
SLACK = 0.9
MASK = 2**64 - 1


@dataclass(frozen=True)
class Request:
    """A request of the loop, of the round that begins at time 0.

    Args:
        size: bytes.
        alignment: of the address, in bytes.
        birth: its position.
        death: the request before which it is freed, at the latest in any recorded round; None: it
            was never freed, in any of them.
    """

    size: int
    alignment: int
    birth: int
    death: int | None


def mark(size: int) -> int:
    """A 64-bit number for a size: splitmix64's finaliser, as in csrc/arena/plan.cc."""
    x = (size + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def program_hash(sizes: Sequence[int]) -> int:
    """What tells loops apart: a hash of their sizes that does not look at the order."""
    return sum(map(mark, sizes)) & MASK


def find_loop(sizes: Sequence[int]) -> tuple[int, int, int]:
    """The shortest loop that explains nearly all that any loop does.

    Returns:
        First request, length, and number of rounds. The rounds have the same sizes, each in its
        own order.

    Raises:
        ValueError: no sequence of sizes comes three times in a row.
    """
    skipped = max(len(sizes) - MOST_REQUESTS, 0)
    sizes = sizes[skipped:]
    count = len(sizes)
    marks = np.array([mark(size) for size in sizes], np.uint64)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(marks, dtype=np.uint64)])
    found = []
    for length in range(1, min(count // ROUNDS, MOST_LENGTH) + 1):
        window = sums[length:] - sums[:-length]
        end, rounds = _longest(window[length:] == window[:-length], length)
        if rounds >= ROUNDS:
            found.append((length, end, rounds))
    if not found:
        raise ValueError(
            f"no loop in {count} requests: no sequence of sizes comes {ROUNDS} times in a row; "
            "record more steps, after those that compile"
        )
    most = max(length * rounds for length, _, rounds in found)
    length, end, rounds = next(f for f in found if f[0] * f[2] >= SLACK * most)
    return skipped + end - length * rounds, length, rounds


def _longest(same: np.ndarray, length: int) -> tuple[int, int]:
    """Where the longest run of equal windows ends, and how many windows it has.

    Args:
        same: whether the window that begins `length` after each request equals that one's.
    """
    padded = np.concatenate([same, np.zeros(-len(same) % length, bool)]).reshape(-1, length)
    run, best = np.zeros(length, np.int64), (0, 0)
    for step, row in enumerate(padded):
        run = np.where(row, run + 1, 0)
        phase = int(np.argmax(run))
        if run[phase] > best[1]:
            best = (step * length + phase + 2 * length, int(run[phase]))
    return best[0], best[1] + 1


def loop_of(trace: Trace) -> list[Request]:
    """One round of the loop in a recorded trace.

    A buffer belongs to the position that has its size and its turn among those with this size.
    What outlives the log tells nothing, as long as another round's buffer was freed.

    Raises:
        ValueError: as `find_loop`.
    """
    records = sorted(trace.records, key=lambda record: record.birth)
    births = [record.birth for record in records]
    start, length, rounds = find_loop([record.size for record in records])
    spans: dict[tuple[int, int], list[int]] = defaultdict(list)
    slots: dict[tuple[int, int], list[int]] = defaultdict(list)
    alignments: dict[tuple[int, int], int] = defaultdict(lambda: 1)
    for turn in range(rounds):
        seen: dict[int, int] = defaultdict(int)
        for at in range(start + turn * length, start + (turn + 1) * length):
            record = records[at]
            name = (record.size, seen[record.size])
            seen[record.size] += 1
            slots[name].append(at - start - turn * length)
            alignments[name] = max(alignments[name], record.alignment)
            if record.kind != OPEN:
                # Until its latest end in any round, seen from its earliest position.
                death = bisect_left(births, record.death)
                spans[name].append(death - start - turn * length)
    requests = [
        Request(name[0], alignments[name], min(at), max(spans[name], default=None))
        for name, at in slots.items()
    ]
    return sorted(requests, key=lambda request: request.birth)
