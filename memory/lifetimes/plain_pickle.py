"""Pickles of plain containers, read without running anything that they ask for.

Python's own unpickler calls whatever a file names. This one knows None, bool, int, float, str,
bytes, list, tuple and dict, and refuses every opcode that makes anything else.
"""

import pickletools
from pathlib import Path
from typing import Any

MOST_FILE_BYTES = 2**31
# Containers within containers, and values that wait for theirs.
DEEPEST = 100
MOST_WAITING = 1_000_000
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ATOMS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
)
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_SKIPPED = ("PROTO", "FRAME")


def read_plain_pickle(path: str | Path) -> Any:
    """The value in a pickle file.

    Raises:
        ValueError: the file cannot be read, or as `load_plain`.
    """
    try:
        if Path(path).stat().st_size > MOST_FILE_BYTES:
            raise ValueError(f"{path}: over {MOST_FILE_BYTES} bytes, the most that is read")
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    return load_plain(data, str(path))


def load_plain(data: bytes, source: str = "pickle") -> Any:
    """The value of a pickle of plain containers.

    Raises:
        ValueError: it is no pickle, is damaged, nests deeper than 100, or asks for anything but
            plain containers; the message names the opcode and its byte.
    """
    machine, at = _Machine(), 0
    try:
        for opcode, argument, position in pickletools.genops(data):
            at = position or 0
            if opcode.name == "STOP":
                return machine.result()
            machine.step(opcode.name, argument)
    except _RefusedError as error:
        raise ValueError(f"{source}: byte {at}: {error}") from None
    except (ValueError, IndexError, KeyError, TypeError, UnicodeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"{source}: byte {at}: no pickle, or damaged: {reason}") from None
    raise ValueError(f"{source}: no pickle, or cut off")


class _RefusedError(Exception):
    """The pickle asks for more than plain containers."""


class _Machine:
    """The stack of a pickle; a mark begins a stack of its own."""

    def __init__(self):
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        if self.outer or len(self.stack) != 1:
            raise ValueError("it ends with values left over")
        return self.stack[0]

    def step(self, name: str, argument: Any) -> None:
        if name in _ATOMS:
            self.push(argument)
        elif name in _CONSTANTS:
            self.push(_CONSTANTS[name])
        elif name in _EMPTY:
            self.push(_EMPTY[name]())
        elif name in _TUPLES:
            self.push(tuple(self.take(_TUPLES[name])))
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in _SKIPPED:
            raise _RefusedError(
                f"opcode {name}: only plain lists, dicts, texts and numbers are read"
            )

    def push(self, value: Any) -> None:
        self.stack.append(value)
        if len(self.stack) > MOST_WAITING:
            raise _RefusedError(f"over {MOST_WAITING} values without a container")

    def take(self, count: int) -> list[Any]:
        """The last values of this stack."""
        if len(self.stack) < count:
            raise ValueError("a value is missing")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def mark(self, _: Any) -> None:
        if len(self.outer) >= DEEPEST:
            raise _RefusedError(f"containers nest deeper than {DEEPEST}")
        self.outer.append(self.stack)
        self.stack = []

    def unmark(self) -> list[Any]:
        """What was pushed since the last mark."""
        values, self.stack = self.stack, self.outer.pop()
        return values

    def extend(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("what is appended to is no list")
        self.stack[-1].extend(values)

    def fill(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or len(values) % 2:
            raise ValueError("what is filled is no dict, or a value is missing")
        self.stack[-1].update(zip(values[::2], values[1::2], strict=True))

    def make_dict(self, _: Any) -> None:
        values = self.unmark()
        self.push({})
        self.fill(values)

    def remember(self, index: Any) -> None:
        self.memo[index] = self.stack[-1]


_STEPS = {
    "MARK": _Machine.mark,
    "POP_MARK": lambda m, _: m.unmark(),
    "POP": lambda m, _: m.take(1),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    "LIST": lambda m, _: m.push(m.unmark()),
    "TUPLE": lambda m, _: m.push(tuple(m.unmark())),
    "DICT": _Machine.make_dict,
    "APPEND": lambda m, _: m.extend(m.take(1)),
    "APPENDS": lambda m, _: m.extend(m.unmark()),
    "SETITEM": lambda m, _: m.fill(m.take(2)),
    "SETITEMS": lambda m, _: m.fill(m.unmark()),
    "MEMOIZE": lambda m, _: m.remember(len(m.memo)),
    "PUT": _Machine.remember,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "GET": lambda m, index: m.push(m.memo[index]),
    "BINGET": lambda m, index: m.push(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.push(m.memo[index]),
}
