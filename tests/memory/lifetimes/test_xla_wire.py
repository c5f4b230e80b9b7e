"""The wire decoder against bytes written by hand, and against cut and broken ones."""

import pytest

from loomax.memory.lifetimes.xla_wire import Message, read_fields, read_varint, signed

# From the encoding guide: field 1 = 150; field 2 = "testing"; field 6 = 3, 270, 86942 packed.
GUIDE = bytes.fromhex("089601" + "120774657374696e67" + "3206038e029ea705")


def test_the_guides_examples_are_read():
    message = Message(GUIDE, "guide")
    assert message.number(1) == 150
    assert message.text(2) == "testing"
    assert message.numbers(6) == (3, 270, 86942)


def test_what_is_not_written_has_its_default():
    message = Message(b"", "empty")
    assert (message.number(1), message.text(1), message.numbers(1)) == (0, "", ())
    assert message.texts(1) == () and message.messages(1, "part") == ()


def test_the_last_value_of_a_single_field_counts_and_repeated_ones_stay():
    message = Message(b"\x08\x01\x08\x02", "twice")
    assert message.number(1) == 2 and message.numbers(1) == (1, 2)


def test_fixed_fields_are_passed_over():
    data = b"\x09" + bytes(8) + b"\x15" + bytes(4) + b"\x18\x07"
    assert Message(data, "fixed").number(3) == 7
    assert [(number, form) for number, form, _ in read_fields(data, "x")] == [
        (1, 1),
        (2, 5),
        (3, 0),
    ]


def test_negative_numbers_are_ten_groups():
    assert Message(b"\x08" + b"\xff" * 9 + b"\x01", "minus one").number(1) == -1
    assert (signed(2**63 - 1), signed(2**63)) == (2**63 - 1, -(2**63))


def test_ids_beyond_32_bits_are_whole():
    id = 7 << 32 | 5
    data, rest = bytearray(), id
    while rest:
        data.append(rest & 0x7F | (0x80 if rest > 0x7F else 0))
        rest >>= 7
    assert read_varint(bytes(data), 0, "id") == (id, len(data))


def test_messages_lie_within_messages():
    (inner,) = Message(b"\x1a\x03\x08\x96\x01", "outer").messages(3, "part")
    assert inner.number(1) == 150 and inner.where == "outer: part 0"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x08", "f: cut off within a number at byte 1"),
        (b"\x08\x96", "f: cut off within a number at byte 1"),
        (b"\x08" + b"\xff" * 10, "f: a number of more than 64 bits at byte 1"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "f: a number of more than 64 bits at byte 1"),
        (b"\x12\x07test", "f: cut off: field 2 at byte 0 has 7 bytes and 4 are left"),
        (b"\x09abc", "f: cut off: field 1 at byte 0 has 8 bytes and 3 are left"),
        (b"\x0b", "f: field 1 has unknown form 3 at byte 0"),
        (b"\x00\x01", "f: field number 0 at byte 0"),
        (b"\x12\x01\xff", "f: field 2 is not UTF-8 text"),
        (b"\x10\x01", "f: field 2 has form 0: it must be bytes"),
    ],
)
def test_broken_bytes_are_refused_with_their_place(data, message):
    with pytest.raises(ValueError, match=message):
        Message(data, "f").text(2)


def test_bytes_are_no_number():
    with pytest.raises(ValueError, match="f: field 1 has form 2: it must be a number"):
        Message(b"\x0a\x00", "f").number(1)


def test_every_cut_of_a_message_is_refused_or_ends_between_fields():
    whole = list(read_fields(GUIDE, "whole"))
    for end in range(len(GUIDE)):
        try:
            cut = list(read_fields(GUIDE[:end], "cut"))
        except ValueError as error:
            assert "cut" in str(error)
        else:
            assert cut == whole[: len(cut)] and end in (0, 3, 12)
