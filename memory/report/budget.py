"""What a program's memory was when it was accepted. Imports no JAX."""

import hashlib
import importlib.metadata
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.xla_program import XlaProgram
from loomax.memory.report.groups import NO_LINE
from loomax.memory.report.peak import peak_of
from loomax.memory.report.residents import bytes_of
from loomax.memory.report.sources import origins_of
from loomax.memory.report.text import operation_text

MOST_ROWS = 50
COMPILERS = ("jax", "jaxlib", "libtpu")


@dataclass(frozen=True)
class Held:
    """Temporaries that one operation of one file holds at the peak.

    Args:
        line: "file:line" of the largest.
        operation: path of JAX functions.
        count: buffers.
        bytes: of all of them together.
    """

    line: str
    operation: str
    count: int
    bytes: int

    @property
    def key(self) -> tuple[str, str]:
        """File and operation: lines move whenever a file is edited."""
        return self.line.rpartition(":")[0], self.operation


@dataclass(frozen=True)
class Entry:
    """One program on one target.

    Args:
        name: of the program, such as a config's.
        target: that it is compiled for, such as "cpu" or "tpu:v5e".
        temp_bytes: of temporaries; these and the next three are as in JAX's memory analysis.
        argument_bytes: of arguments.
        output_bytes: of outputs.
        alias_bytes: of outputs that take the place of donated arguments.
        peak_bytes: of all blocks together.
        versions: of what compiled it.
        program_hash: tells whether it is the same program.
        held: what holds the temporaries' peak, the largest first.

    Raises:
        ValueError: a name is empty, or the sizes contradict each other.
    """

    name: str
    target: str
    temp_bytes: int
    argument_bytes: int
    output_bytes: int
    alias_bytes: int
    peak_bytes: int
    versions: Mapping[str, str] = field(default_factory=dict)
    program_hash: str = ""
    held: tuple[Held, ...] = ()

    def __post_init__(self):
        for text in ("name", "target"):
            if not getattr(self, text):
                raise ValueError(f"{text} is empty: say which program, on what")
        sizes = ("temp_bytes", "argument_bytes", "output_bytes", "alias_bytes", "peak_bytes")
        for size in sizes:
            if getattr(self, size) < 0:
                raise ValueError(f"{size} is {getattr(self, size)}: it must be 0 or more")
        most = min(self.argument_bytes, self.output_bytes)
        if self.alias_bytes > most:
            raise ValueError(
                f"alias_bytes is {self.alias_bytes}: arguments and outputs share at most {most}"
            )
        if self.constant_bytes < 0:
            parts = self.peak_bytes - self.constant_bytes
            raise ValueError(f"peak_bytes is {self.peak_bytes}: its parts sum to {parts}")

    @property
    def key(self) -> tuple[str, str]:
        """What a budget knows it by."""
        return self.name, self.target

    @property
    def constant_bytes(self) -> int:
        """What is neither a temporary nor an argument nor an output."""
        named = self.temp_bytes + self.argument_bytes + self.output_bytes - self.alias_bytes
        return self.peak_bytes - named

    @property
    def other_bytes(self) -> int:
        """All but temporaries: arguments, outputs and constants."""
        return self.peak_bytes - self.temp_bytes


def measure(program: XlaProgram, name: str, target: str, lowered: str = "") -> Entry:
    """The entry of a compiled program.

    Args:
        program: from `compile_traced`.
        name: that the budget knows it by.
        target: that it was compiled for.
        lowered: the program before compilation (`lowered.as_text()`), so that a check can tell a
            changed program from a changed compiler.
    """
    donated = bytes_of(program, "donated")
    if lowered:
        digest = "lowered:" + _digest(lowered)
    else:
        records = [astuple(record) for record in program.trace.records]
        digest = "buffers:" + _digest(repr((program.module, records)))
    return Entry(
        name,
        target,
        temp_bytes=program.heap_bytes + bytes_of(program, "temporary"),
        argument_bytes=donated + bytes_of(program, "parameter"),
        output_bytes=donated + bytes_of(program, "output"),
        alias_bytes=donated,
        peak_bytes=program.peak,
        versions=_versions(target),
        program_hash=digest,
        held=_held(program),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _versions(target: str) -> dict[str, str]:
    found = {}
    for package in COMPILERS:
        if package == "libtpu" and target.startswith(("cpu", "gpu")):
            continue
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _held(program: XlaProgram) -> tuple[Held, ...]:
    origins = origins_of(program)
    alike: dict[tuple[str, str], list[Lifetime]] = defaultdict(list)
    for record in peak_of(program.heap).held:
        origin = origins[record.id]
        file = origin.line.rpartition(":")[0]
        alike[file, operation_text(origin.op_name or origin.opcode)].append(record)
    rows = [
        Held(
            origins[found[0].id].line or NO_LINE,
            operation,
            len(found),
            sum(record.padded for record in found),
        )
        for (_, operation), found in alike.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.bytes)[:MOST_ROWS])
