"""tf.train.Example records without TensorFlow: bytes and whole numbers by feature name.

The wire format is that of protocol buffers (protobuf.dev/programming-guides/encoding). An Example
holds Features (field 1), a map (field 1) of name (1) to Feature (2); a Feature holds a list of
bytes (1), floats (2) or whole numbers (3), each list its values (1).
"""

from collections.abc import Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


def parse_example(raw: bytes, where: str) -> dict[str, list]:
    """Features of a record by name; those with floats are left out.

    Raises:
        ValueError: the record is cut short, or is something else; `where` is named.
    """
    try:
        found = {}
        for features in _nested(raw, 1):
            for entry in _nested(features, 1):
                (name,) = _nested(entry, 1)
                for feature in _nested(entry, 2):
                    values = _values(feature)
                    if values is not None:
                        found[name.decode()] = values
        return found
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{where} is no tf.train.Example: {error}") from None


def _values(feature: bytes) -> list | None:
    for number, value in _fields(feature):
        if number == 1:
            return list(_nested(value, 1))
        if number == 3:
            return [whole for _, part in _fields(value) for whole in _whole_numbers(part)]
    return None


def _whole_numbers(part: bytes | int) -> list[int]:
    """One value, or many in a row."""
    if isinstance(part, int):
        return [_signed(part)]
    found, at = [], 0
    while at < len(part):
        value, at = _varint(part, at)
        found.append(_signed(value))
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _nested(raw: bytes, wanted: int) -> Iterator[bytes]:
    return (value for number, value in _fields(raw) if number == wanted)


def _fields(raw: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(number, value) of each field of a message."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = _varint(raw, at)
        else:
            size = {FIXED64: 8, FIXED32: 4}.get(kind)
            if kind == LENGTH:
                size, at = _varint(raw, at)
            if size is None or at + size > len(raw):
                raise ValueError("a field is cut short or of an unknown kind")
            value, at = raw[at : at + size], at + size
        yield tag >> 3, value


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
