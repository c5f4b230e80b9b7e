"""What a compiled program sends between devices, read from its text, loops multiplied out."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_BITS = re.compile(r"[a-z]+?(\d+)")
_ARRAY = re.compile(r"\b(pred|[suf]\d+|bf16|f8\w+|c64|c128)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_NAMED = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_OPERATION = re.compile(r"(?:^|[\s)}])([a-z][\w\-]*)\(([^()]*)\)")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|called_computations)=\{?((?:%[\w.\-]+,? ?)+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONSTANT = re.compile(r"[su]32\[\]\S* constant\((\d+)\)")
_CONDITION, _BODY = (re.compile(rf"{word}=%?([\w.\-]+)") for word in ("condition", "body"))
_PLACE = re.compile(r" index=(\d+)")
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


@dataclass(frozen=True)
class _Operation:
    """A line of a computation."""

    name: str
    kind: str
    shape: str
    operands: tuple[str, ...]
    called: tuple[str, ...]
    text: str


def collectives(text: str) -> dict[str, Traffic]:
    """Collective operations by kind in the text of a compiled program (`compiled.as_text()`).

    A loop counts as often as it runs, where the compiler knows or its condition compares with a
    constant, else once. The TPU compiler shows an asynchronous operation in several places with
    one channel number, of which one is counted.

    Raises:
        ValueError: this is not the text of a compiled program.
    """
    computations, entry = _parse(text)
    if entry is None:
        raise ValueError("the text has no ENTRY computation: give what compiled.as_text() returns")
    sizes = {line.name: line.shape for lines in computations.values() for line in lines}
    found: dict[str, Traffic] = {}
    for line, times in _runs(computations, entry):
        kind = line.kind.removesuffix("-start")
        if kind in KINDS:
            before = found.get(kind, Traffic(0, 0))
            each = _bytes_moved(line, sizes)
            found[kind] = Traffic(before.count + times, before.bytes + times * each)
    return found


def _parse(text: str) -> tuple[dict[str, list[_Operation]], str | None]:
    """Computations by name, and the name of the first to run."""
    computations: dict[str, list[_Operation]] = {}
    entry, lines = None, []
    for row in text.splitlines():
        head = _COMPUTATION.match(row)
        if head:
            lines = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
            continue
        named = _NAMED.match(row)
        if named:
            lines.append(_operation(named[1], named[2]))
    return computations, entry


def _operation(name: str, text: str) -> _Operation:
    """A line without its name: a shape, an operation, its operands and attributes."""
    shape = _shape_of(text)
    found = _OPERATION.search(text, len(shape) - 1)
    kind, operands = (found[1], found[2]) if found else ("", "")
    called = [word.strip("% ") for names in _CALLED.findall(text) for word in names.split(",")]
    names = tuple(re.findall(r"%([\w.\-]+)", operands))
    return _Operation(name, kind, shape, names, tuple(filter(None, called)), text)


def _shape_of(text: str) -> str:
    """The leading shape of a line: a word, or all within the outer parentheses."""
    if not text.startswith("("):
        return text.partition(" ")[0]
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return text[: place + 1]
    return text


def _runs(
    computations: Mapping[str, list[_Operation]], entry: str
) -> Iterator[tuple[_Operation, int]]:
    """Every operation with how often it runs, one for each channel."""
    seen: set[str] = set()
    waiting: list[tuple[str, int]] = [(entry, 1)]
    while waiting:
        name, times = waiting.pop()
        for line in computations.get(name, ()):
            channel = _CHANNEL.search(line.text)
            if channel is None or channel[1] not in seen:
                yield line, times
            if channel is not None:
                seen.add(channel[1])
            trips = _trips(line, computations) if line.kind == "while" else 1
            waiting += [(called, times * trips) for called in line.called]


def _trips(line: _Operation, computations: Mapping[str, list[_Operation]]) -> int:
    """How often a loop runs, 1 where that is not known."""
    known = _TRIPS.search(line.text)
    if known:
        return int(known[1])
    condition, body = (
        {each.name: each for each in computations.get(found[1], ())} if found else {}
        for found in (_CONDITION.search(line.text), _BODY.search(line.text))
    )
    limits = [int(each[1]) for line in condition.values() if (each := _CONSTANT.search(line.text))]
    return -(-max(limits) // _step(condition, body)) if limits else 1


def _step(condition: Mapping[str, _Operation], body: Mapping[str, _Operation]) -> int:
    """What one round adds to the counter that a loop's condition reads, 1 where that is not clear.

    The TPU compiler unrolls some loops by two and counts by two.
    """
    places = [
        int(found[1])
        for line in condition.values()
        if line.kind == "compare"
        for name in line.operands
        if name in condition and (found := _PLACE.search(condition[name].text))
    ]
    *_, last = body.values() or (None,)
    if len(places) != 1 or last is None or places[0] >= len(last.operands):
        return 1
    counter = body.get(last.operands[places[0]])
    if counter is None or counter.kind != "add":
        return 1
    found = [_CONSTANT.search(body[name].text) for name in counter.operands if name in body]
    return max([int(each[1]) for each in found if each], default=1) or 1


def _bytes_moved(line: _Operation, sizes: Mapping[str, str]) -> int:
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
