"""Seconds of the programs of a plan, while it runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import jax

from loomax.agents.workflow.execute.deferred import settled
from loomax.agents.workflow.execute.evaluate import Values
from loomax.agents.workflow.execute.record import CallStep, Step, Var


@dataclass(frozen=True)
class Piece:
    """A call or a loop in a program.

    Args:
        stages: (stage, times) of its calls.
    """

    stages: tuple[tuple[str, int], ...]

    @property
    def joined(self) -> str:
        """By which a profile knows it as a whole."""
        return "+".join(stage for stage, _ in self.stages)


@dataclass(frozen=True)
class Watched:
    """A program.

    Args:
        batch: items of a call, over all devices.
        devices: 0 for a stage outside of them.
    """

    pieces: tuple[Piece, ...]
    batch: int
    devices: int


@dataclass
class Watch:
    """Collects what programs take while it is `on`.

    They then wait for each other, so nothing overlaps: results stay the same, and that iteration
    is slower. Seconds are from when a program's inputs are there until its results are.
    """

    clock: Callable[[], float] = time.perf_counter
    on: bool = False
    seen: list[tuple[Watched, float]] = field(default_factory=list)

    def take(self) -> list[tuple[Watched, float]]:
        """What was collected since the last time."""
        taken, self.seen = self.seen, []
        return taken


@dataclass(frozen=True)
class Timed:
    """A program that is watched."""

    work: Callable[[Values], None]
    watch: Watch
    what: Watched
    reads: tuple[Var, ...]
    writes: tuple[Var, ...]

    def __call__(self, values: Values) -> None:
        if not self.watch.on:
            self.work(values)
            return
        _wait(self.reads, values)
        start = self.watch.clock()
        self.work(values)
        _wait(self.writes, values)
        self.watch.seen.append((self.what, self.watch.clock() - start))


def pieces_of(steps: tuple[Step, ...]) -> tuple[Piece, ...]:
    """What a program consists of."""
    return tuple(Piece(tuple(_times(step, 1))) for step in steps)


def _times(step: Step, times: int) -> list[tuple[str, int]]:
    if isinstance(step, CallStep):
        return [(step.stage.name, times)]
    return [pair for inner in step.body for pair in _times(inner, times * step.rounds)]


def _wait(names: tuple[Var, ...], values: Values) -> None:
    for var in names:
        values[var] = settled(values[var])
    jax.block_until_ready([values[var] for var in names])
