"""Which rows belong to which simulator. Imports no JAX.

Simulator j of B has the rows j, j + B, j + 2 B, ...: microbatches take every k-th row, so that
they hold whole simulators wherever k divides B. In the arena a simulator's rows lie together.
"""

from dataclasses import dataclass

import numpy as np

from loomax.agents.workflow.external.config import PoolConfig


@dataclass(frozen=True)
class Share:
    """What one simulator does in a call.

    Args:
        simulator: its index.
        start, stop: its rows in the arena.
    """

    simulator: int
    start: int
    stop: int


def shares_of(config: PoolConfig, rows: np.ndarray) -> tuple[np.ndarray, tuple[Share, ...]]:
    """Where the rows of a batch lie in the arena, and what simulators do with them.

    Raises:
        ValueError: rows that are not there or come twice, or some rows of a simulator only.
    """
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ValueError(f"rows are {rows.dtype}{rows.shape}: give the numbers of the rows")
    if len(rows) and not 0 <= rows.min() <= rows.max() < config.batch:
        raise ValueError(
            f"rows from {rows.min()} to {rows.max()}: the pool has 0 to {config.batch - 1}"
        )
    each, count = config.rows_each, config.count
    owners = rows % count
    slots = owners * each + rows // count
    if len(np.unique(slots)) != len(slots):
        raise ValueError("a row comes twice: give each row once")
    found, sizes = np.unique(owners, return_counts=True)
    for owner, size in zip(found, sizes, strict=True):
        if size != each:
            raise ValueError(
                f"{size} of the {each} rows of simulator {owner}: cut the batch into a number of "
                f"microbatches that divides the {count} simulators"
            )
    return slots, tuple(Share(int(j), int(j) * each, (int(j) + 1) * each) for j in found)


def even_shares(config: PoolConfig, count: int) -> tuple[np.ndarray, tuple[Share, ...]]:
    """The same for rows without state, shared evenly.

    Raises:
        ValueError: more rows than the pool has room for.
    """
    if count > config.batch:
        raise ValueError(f"{count} rows: the pool has room for {config.batch}")
    ends = [count * i // config.count for i in range(config.count + 1)]
    pairs = zip(ends, ends[1:], strict=False)
    shares = (Share(j, a, b) for j, (a, b) in enumerate(pairs))
    return np.arange(count), tuple(share for share in shares if share.start < share.stop)
