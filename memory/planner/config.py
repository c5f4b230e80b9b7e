"""What a packing run may use. Imports no JAX."""

from dataclasses import dataclass

from loomax.runtime.config import unknown

STRATEGIES = ("portfolio", "groups")


@dataclass(frozen=True)
class PackConfig:
    """Settings of the planner.

    Args:
        capacity: stop at the first plan whose peak is at most this; None looks for the least peak.
        seconds: time limit, at whose end the best plan so far is returned; one greedy plan is
            always made. A run that ends before is the same for the same seed, whatever the number
            of threads. Without a capacity it ends before when many rounds of exact search found
            nothing, and traces too large for exact search end after the greedy orders.
        gap: without a capacity, a peak of (1 + gap) x lower bound is good enough.
        seed: of the local search and of the exact search's restarts.
        threads: searches side by side; 0 takes one for each core.
        moves: of the local search at most.
        rounds: of the exact search, of 1, 1, 2, 1, 1, 2, 4, ... lengths; None: as many as help.
        strategy: "groups" plans buffers of the same phase as blocks first (`groups.py`).
    """

    capacity: int | None = None
    seconds: float = 30.0
    gap: float = 0.0
    seed: int = 0
    threads: int = 0
    moves: int = 2_000
    rounds: int | None = None
    strategy: str = "portfolio"

    def __post_init__(self):
        if self.strategy not in STRATEGIES:
            raise ValueError(unknown("strategy", self.strategy, STRATEGIES))
        if self.capacity is not None and self.capacity < 0:
            raise ValueError(f"capacity is {self.capacity}: give 0 or more bytes")
        if not 0 < self.seconds < 1e9:
            raise ValueError(f"seconds is {self.seconds}: give a time limit above 0")
        if not 0 <= self.gap < 1e6:
            raise ValueError(f"gap is {self.gap}: give 0 or more")
        for name in ("seed", "threads", "moves", "rounds"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 2**31:
                raise ValueError(f"{name} is {value}: give 0 or more, below 2**31")
