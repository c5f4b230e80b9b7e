"""What a pool and its workers tell each other, and what an engine of workers offers.

Messages are tiny: arrays lie in the arena. Only snapshots, which are the simulator's own objects,
travel as bytes. Imports no JAX.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from loomax.agents.workflow.external.arena import Arena
from loomax.agents.workflow.external.rows import Share


@dataclass(frozen=True)
class Request:
    """Work for one worker.

    Args:
        kind: "step" or "reset".
        shares: of its simulators.
        snapshots: simulators whose state is wanted afterwards.
        restores: states that simulators go back to before.
    """

    kind: str
    shares: tuple[Share, ...]
    snapshots: tuple[int, ...] = ()
    restores: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What came of it; the outputs lie in the arena.

    Args:
        error: a traceback, "" where all went well.
        snapshots: of those that can make one.
    """

    error: str = ""
    snapshots: dict[int, bytes] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The traceback's last line."""
        lines = [line for line in self.error.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


class WorkerDied(Exception):
    """A worker ended without an answer; says how."""


class SimulatorError(RuntimeError):
    """A simulator or its worker failed, for good; names the worker and the reason."""


@runtime_checkable
class Worker(Protocol):
    """One worker, which answers that it has started, then each request."""

    index: int

    @property
    def pid(self) -> int | str | None:
        """The process, for messages."""

    def send(self, request: Request) -> None:
        """Starts work; a worker that is gone shows when it is received from."""

    def receive(self) -> Answer:
        """The next answer, when `Engine.wait` has said that it is there.

        Raises:
            WorkerDied: it ended without one.
        """

    def kill(self) -> None:
        """Ends it at once, and waits until it is gone."""

    def close(self) -> None:
        """Lets it end by itself; kills it if it does not."""


@runtime_checkable
class Engine(Protocol):
    """How workers are started and reached."""

    arena: Arena

    def start(self, index: int) -> Worker:
        """A new worker; its first answer comes when its simulators are made."""

    def wait(self, workers: Sequence[Worker], timeout_s: float) -> list[Worker]:
        """Those that have an answer or are dead, as soon as there are any; none in time: []."""

    def close(self) -> None:
        """Gives back what all workers share."""
