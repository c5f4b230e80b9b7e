"""Runs programs on names instead of numbers, and writes down how long each buffer lives.

A buffer ends after the last step that reads it, as it would where a framework counts references.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from loomax.memory.lifetimes.jaxpr import Program
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace


@dataclass
class Buffer:
    """A buffer of the run; `last` is the time of the last step that read it."""

    id: str
    size: int
    kind: str
    birth: int
    last: int
    first_phase: str
    last_phase: str


class Recorder:
    """Buffers, the time (steps so far) and the phase that runs now."""

    def __init__(self):
        self.time = 0
        self.phase = "start"
        self._buffers: list[Buffer] = []

    def new(self, id: str, size: int, kind: str) -> Buffer:
        """A buffer that is born now."""
        buffer = Buffer(id, size, kind, self.time, self.time, self.phase, self.phase)
        self._buffers.append(buffer)
        return buffer

    def read(self, *buffers: Buffer) -> None:
        """A step that reads buffers."""
        for buffer in buffers:
            buffer.last, buffer.last_phase = self.time, self.phase
        self.time += 1

    def run(
        self,
        program: Program,
        inputs: Sequence[Buffer | None],
        prefix: str,
        sizes: Sequence[int] = (),
        dynamic: frozenset[int] = frozenset(),
    ) -> list[Buffer | None]:
        """Runs a program once; None stands for a literal.

        Args:
            prefix: of the names of its buffers; unique in the run.
            sizes: bytes of the program's values; empty: the program's own.
            dynamic: values whose size follows the data.

        Returns:
            The buffers of the results.
        """
        real = sizes or program.sizes
        env: dict[int, Buffer | None] = dict(zip(program.inputs, inputs, strict=True))

        def make(value: int) -> Buffer:
            kind = "dynamic" if value in dynamic else "temporary"
            return self.new(f"{prefix}/{value}", real[value], kind)

        for value in program.constants:
            env[value] = make(value)
        for step in program.steps:
            for value in step.writes:
                env[value] = make(value)
            touched = (env.get(value) for value in step.reads + step.writes)
            self.read(*(buffer for buffer in touched if buffer is not None))
        return [None if value is None else env[value] for value in program.outputs]

    def trace(self, residents: Sequence[Buffer], alignment: int, source: str) -> Trace:
        """The trace so far; residents live to its end."""
        throughout = {id(buffer) for buffer in residents}
        return Trace(
            tuple(
                Lifetime(
                    buffer.id,
                    buffer.size,
                    buffer.birth,
                    self.time + 1 if id(buffer) in throughout else buffer.last + 1,
                    alignment,
                    buffer.kind,
                    ""
                    if id(buffer) in throughout
                    else f"{buffer.first_phase} -> {buffer.last_phase}",
                )
                for buffer in self._buffers
            ),
            source,
        )
