"""What brings a simulator back after its worker was lost: a state, and the inputs since then.

Imports no JAX.
"""

from dataclasses import dataclass, field

import numpy as np

from loomax.agents.workflow.external.simulator import Arrays


@dataclass(frozen=True)
class Entry:
    """Inputs of a call of `kind`, copied."""

    kind: str
    arrays: dict[str, np.ndarray]


@dataclass
class Journal:
    """Of one simulator.

    Args:
        limit: entries that are kept; with more the simulator cannot be brought back.
        state: a snapshot, None for the state in which the factory makes it.
        lost: why its state is unknown, "" where it is known.
    """

    limit: int
    state: bytes | None = None
    entries: list[Entry] = field(default_factory=list)
    steps: int = 0
    lost: str = ""

    def add(self, kind: str, arrays: Arrays) -> None:
        """Notes a call. A reset makes all before it unnecessary."""
        if kind == "reset":
            self.keep(None)
            self.lost, self.steps = "", 0
        else:
            self.steps += 1
        self.entries.append(Entry(kind, {name: x.copy() for name, x in arrays.items()}))
        # One more than can be replayed is enough to know that it cannot.
        del self.entries[self.limit + 1 :]

    def keep(self, state: bytes | None) -> None:
        """Starts anew from a state."""
        self.state = state
        self.entries.clear()

    def due(self, every: int) -> bool:
        """Whether its state should be asked for with the call that was noted last."""
        return self.steps > 0 and self.steps % every == 0

    @property
    def replayable(self) -> bool:
        return len(self.entries) <= self.limit
