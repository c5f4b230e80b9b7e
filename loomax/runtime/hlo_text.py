"""Operations of a compiled program, read from its text, with how often each runs."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Operation:
    """A line of a computation."""

    name: str
    kind: str
    shape: str
    operands: tuple[str, ...]
    called: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Listing:
    """A program's computations by name; `entry` runs first."""

    computations: Mapping[str, list[Operation]]
    entry: str

    def runs(self, *, within: Collection[str] = ()) -> Iterator[tuple[Operation, int]]:
        """Every operation with how often it runs.

        A loop counts as often as it runs, where the compiler knows or its condition compares with
        a constant, else once.

        Args:
            within: kinds of operations whose parts are left out, such as "fusion".
        """
        waiting: list[tuple[str, int]] = [(self.entry, 1)]
        while waiting:
            name, times = waiting.pop()
            for line in self.computations.get(name, ()):
                yield line, times
                trips = _trips(line, self.computations) if line.kind == "while" else 1
                if line.kind not in within:
                    waiting += [(called, times * trips) for called in line.called]


def read_program(text: str) -> Listing:
    """The operations in the text of a compiled program (`compiled.as_text()`).

    Raises:
        ValueError: this is not the text of a compiled program.
    """
    computations: dict[str, list[Operation]] = {}
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
    if entry is None:
        raise ValueError("the text has no ENTRY computation: give what compiled.as_text() returns")
    return Listing(computations, entry)


def _operation(name: str, text: str) -> Operation:
    """A line without its name: a shape, an operation, its operands and attributes."""
    shape = _shape_of(text)
    found = _OPERATION.search(text, len(shape) - 1)
    kind, operands = (found[1], found[2]) if found else ("", "")
    called = [word.strip("% ") for names in _CALLED.findall(text) for word in names.split(",")]
    names = tuple(re.findall(r"%([\w.\-]+)", operands))
    return Operation(name, kind, shape, names, tuple(filter(None, called)), text)


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


def _trips(line: Operation, computations: Mapping[str, list[Operation]]) -> int:
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


def _step(condition: Mapping[str, Operation], body: Mapping[str, Operation]) -> int:
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
