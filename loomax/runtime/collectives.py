"""What a compiled program sends between devices, read from its text, loops multiplied out."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from loomax.runtime.hlo_text import Operation, read_program

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_BITS = re.compile(r"[a-z]+?(\d+)")
_ARRAY = re.compile(r"\b(pred|[suf]\d+|bf16|f8\w+|c64|c128)\[([\d,]*)\]")
_CHANNEL = re.compile(r"channel_id=(\d+)")


@dataclass(frozen=True)
class Traffic:
    """One kind of collective operation in one run of a program, on one device.

    Args:
        count: of operations.
        bytes: of the larger of operand and result, summed over the operations.
    """

    count: int
    bytes: int


def collectives(text: str) -> dict[str, Traffic]:
    """Collective operations by kind in the text of a compiled program (`compiled.as_text()`).

    A loop counts as often as it runs, where that is known, else once. The TPU compiler shows an
    asynchronous operation in several places with one channel number, of which one is counted.

    Raises:
        ValueError: this is not the text of a compiled program.
    """
    program = read_program(text)
    sizes = {line.name: line.shape for lines in program.computations.values() for line in lines}
    found: dict[str, Traffic] = {}
    seen: set[str] = set()
    for line, times in program.runs():
        channel = _CHANNEL.search(line.text)
        if channel is not None and channel[1] in seen:
            continue
        if channel is not None:
            seen.add(channel[1])
        kind = line.kind.removesuffix("-start")
        if kind in KINDS:
            before = found.get(kind, Traffic(0, 0))
            each = _bytes_moved(line, sizes)
            found[kind] = Traffic(before.count + times, before.bytes + times * each)
    return found


def _bytes_moved(line: Operation, sizes: Mapping[str, str]) -> int:
    """Bytes of the larger of an operation's operands and its results.

    What an asynchronous start gives holds operand and result: the larger one is the result.
    """
    results = list(map(_array_bytes, _ARRAY.findall(line.shape)))
    total = max(results, default=0) if line.kind.endswith("-start") else sum(results)
    given = sum(
        sum(map(_array_bytes, _ARRAY.findall(sizes.get(name, "")))) for name in line.operands
    )
    return max(total, given)


def _array_bytes(array: tuple[str, str]) -> int:
    kind, shape = array
    found = _BITS.match(kind)
    bits = 8 if found is None or kind == "pred" else int(found[1])
    return math.prod(map(int, filter(None, shape.split(",")))) * bits // 8


def total_bytes(found: Mapping[str, Traffic]) -> int:
    """Bytes of all kinds together."""
    return sum(each.bytes for each in found.values())
