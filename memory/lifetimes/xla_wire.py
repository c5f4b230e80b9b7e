"""Protobuf's wire format, as much as reading XLA's dumps takes. Imports no JAX.

A message is a row of (key, value): the key holds a field number and how the value is written
(protobuf.dev/programming-guides/encoding). A field that has its default is not written at all.
"""

from collections.abc import Iterator
from functools import cached_property

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
FIXED = {FIXED64: 8, FIXED32: 4}
# A 64-bit number takes at most ten groups of seven bits.
MOST_GROUPS = 10


def read_varint(data: bytes, at: int, where: str) -> tuple[int, int]:
    """An unsigned number and the position after it.

    Raises:
        ValueError: the data end within it, or it is longer than 64 bits.
    """
    value = 0
    for group in range(MOST_GROUPS):
        if at + group >= len(data):
            raise ValueError(f"{where}: cut off within a number at byte {at}")
        byte = data[at + group]
        value |= (byte & 0x7F) << (7 * group)
        if byte < 0x80:
            if value >= 2**64:
                break
            return value, at + group + 1
    raise ValueError(f"{where}: a number of more than 64 bits at byte {at}")


def read_fields(data: bytes, where: str) -> Iterator[tuple[int, int, int | bytes]]:
    """(field number, how it is written, value) of each field, in order.

    Raises:
        ValueError: the data are no such message; `where` and the byte are named.
    """
    at = 0
    while at < len(data):
        start = at
        key, at = read_varint(data, at, where)
        number, form = key >> 3, key & 7
        if not 0 < number < 2**29:
            raise ValueError(f"{where}: field number {number} at byte {start}")
        if form == VARINT:
            value, at = read_varint(data, at, where)
            yield number, form, value
            continue
        if form == BYTES:
            length, at = read_varint(data, at, where)
        elif form in FIXED:
            length = FIXED[form]
        else:
            raise ValueError(f"{where}: field {number} has unknown form {form} at byte {start}")
        if length > len(data) - at:
            raise ValueError(
                f"{where}: cut off: field {number} at byte {start} has {length} bytes and "
                f"{len(data) - at} are left"
            )
        yield number, form, data[at : at + length]
        at += length


class Message:
    """A message whose fields are asked for by number.

    Args:
        data: the message as written.
        where: what it is, for errors, such as "file.pb: allocation".
    """

    def __init__(self, data: bytes, where: str):
        self.data = data
        self.where = where

    @cached_property
    def fields(self) -> dict[int, list[tuple[int, int | bytes]]]:
        """(form, value) of each value, by field number."""
        found: dict[int, list[tuple[int, int | bytes]]] = {}
        for number, form, value in read_fields(self.data, self.where):
            found.setdefault(number, []).append((form, value))
        return found

    def number(self, field: int) -> int:
        """A signed 64-bit number; 0 where it is not written, the last where it is often."""
        values = self.fields.get(field)
        if not values:
            return 0
        form, value = values[-1]
        if not isinstance(value, int):
            raise ValueError(f"{self.where}: field {field} has form {form}: it must be a number")
        return signed(value)

    def numbers(self, field: int) -> tuple[int, ...]:
        """Signed numbers, packed into one value or one value each."""
        found = []
        for _, value in self.fields.get(field, ()):
            if isinstance(value, int):
                found.append(signed(value))
                continue
            at = 0
            while at < len(value):
                number, at = read_varint(value, at, f"{self.where}: field {field}")
                found.append(signed(number))
        return tuple(found)

    def text(self, field: int) -> str:
        """A text; empty where it is not written."""
        values = self.texts(field)
        return values[-1] if values else ""

    def texts(self, field: int) -> tuple[str, ...]:
        """Every text of a repeated field."""
        try:
            return tuple(value.decode() for value in self._bytes(field))
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.where}: field {field} is not UTF-8 text") from error

    def messages(self, field: int, name: str) -> tuple["Message", ...]:
        """Every message of a repeated field; `name` says in errors what they are."""
        found = self._bytes(field)
        return tuple(Message(value, f"{self.where}: {name} {at}") for at, value in enumerate(found))

    def _bytes(self, field: int) -> list[bytes]:
        found = []
        for form, value in self.fields.get(field, ()):
            if form != BYTES or isinstance(value, int):
                raise ValueError(f"{self.where}: field {field} has form {form}: it must be bytes")
            found.append(value)
        return found


def signed(value: int) -> int:
    """What 64 bits say as a signed number: negative ones are written as ten groups."""
    return value - 2**64 if value >= 2**63 else value
