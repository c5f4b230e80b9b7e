"""Steps of XLA's allocator written by hand: in-place reuse, sharing, order, and broken protos."""

import pytest

from loomax.memory.lifetimes.xla import parse_program
from loomax.memory.lifetimes.xla_heap import live_ranges, merge_places
from loomax.memory.lifetimes.xla_program import program_of
from loomax.memory.lifetimes.xla_proto import (
    ALLOC,
    FREE,
    SHARE,
    Allocation,
    Assignment,
    Buffer,
    Event,
    Origin,
    Slot,
)
from loomax.memory.planner.plan import check_plan


def field(number, value):
    """One field, written: a number, a text, or a list of fields."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else b"".join(value)
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value):
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def program(events, places, allocations=(), colors=(0,)):
    """A program whose one heap holds `places`: (offset, size) of buffers 0, 1, ..."""
    buffers = {id: Buffer(id, size, f"op{id}", ()) for id, (_, size) in enumerate(places)}
    slots = tuple(Slot(id, *place) for id, place in enumerate(places))
    size = max(offset + size for offset, size in places)
    heaps = [
        Allocation(at, size, color, slots, False, False, False, False)
        for at, color in enumerate(colors)
    ]
    steps = (tuple(Event(*event) for event in events),)
    assignment = Assignment(buffers, (*heaps, *allocations), steps)
    return program_of(assignment, {}, "jit_f", "hand")


def lives(found):
    return {record.id: (record.birth, record.death, record.alias) for record in found.heap.records}


def test_lives_are_steps():
    found = program(
        [(ALLOC, 0, 0), (ALLOC, 1, 0), (FREE, 0, 0), (ALLOC, 2, 0), (FREE, 1, 0)],
        [(0, 64), (64, 64), (0, 64)],
    )
    # The third is never freed: it lives to the end.
    assert lives(found) == {"op0": (0, 2, ""), "op1": (1, 4, ""), "op2": (3, 5, "")}
    assert (found.heap.lower_bound, found.heap_bytes, found.ratio) == (128, 128, 1.0)


def test_a_buffer_ends_where_another_is_written_over_it():
    events = [(ALLOC, 0, 0), (ALLOC, 1, 0), (FREE, 0, 0), (FREE, 1, 0)]
    found = program(events, [(0, 64), (0, 64)])
    assert lives(found) == {"op0": (0, 1, ""), "op1": (1, 3, "")}
    check_plan(found.heap, found.offsets, found.heap_bytes)


def test_those_that_share_are_one_piece_of_memory():
    events = [(ALLOC, 0, 0), (SHARE, 1, 0), (FREE, 0, 0), (SHARE, 2, 1), (FREE, 1, 0)]
    found = program([*events, (FREE, 2, 0)], [(0, 64)] * 3)
    assert lives(found) == {"op0": (0, 1, "op0"), "op1": (1, 3, "op0"), "op2": (3, 5, "op0")}


def test_memory_that_another_used_in_between_is_a_new_piece():
    events = [(ALLOC, 0, 0), (FREE, 0, 0), (ALLOC, 1, 0), (FREE, 1, 0), (SHARE, 2, 0)]
    found = program([*events, (SHARE, 3, 2), (FREE, 2, 0)], [(0, 64)] * 4)
    assert lives(found) == {
        "op0": (0, 1, ""),
        "op1": (2, 3, ""),
        "op2": (4, 5, "op0+1"),
        "op3": (5, 7, "op0+1"),
    }
    assert found.heap.lower_bound == 64


def test_tables_without_steps_live_throughout_and_those_in_one_place_are_one():
    found = program([(ALLOC, 0, 0), (FREE, 0, 0)], [(0, 64), (64, 16), (64, 32)])
    assert lives(found) == {"op0": (0, 1, ""), "op2": (0, 2, "")}
    assert found.heap.records[1].size == 32 and found.offsets["op2"] == 64


def test_one_without_steps_in_the_bytes_of_others_is_left_out_by_name():
    found = program([(ALLOC, 0, 0), (FREE, 0, 0)], [(0, 64), (32, 16)])
    assert list(lives(found)) == ["op0"] and found.left_out == ("op1",)


def test_other_memory_is_not_the_devices():
    found = program([(ALLOC, 0, 0), (FREE, 0, 0)], [(0, 64)], colors=(1, 0))
    assert (found.heap_bytes, found.residents.records) == (64, ())


@pytest.mark.parametrize(("offset", "alignment"), [(64, 64), (512, 64), (16, 16), (1, 1)])
def test_alignment_divides_every_offset(offset, alignment):
    found = program([(ALLOC, 0, 0), (ALLOC, 1, 0)], [(0, 1), (offset, 8)])
    assert {record.alignment for record in found.heap.records} == {alignment}
    assert found.heap_peak % alignment == 0 and found.heap_peak >= found.heap_bytes


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([(FREE, 0, 0)], r"hand: heap trace: step 1 \(free\): 'a' was never allocated"),
        ([(ALLOC, 0, 0), (FREE, 0, 0), (FREE, 0, 0)], r"step 3 \(free\): 'a' has been freed"),
        ([(ALLOC, 0, 0), (ALLOC, 0, 0)], r"step 2 \(alloc\): 'a' has been allocated"),
        ([(ALLOC, 0, 0), (SHARE, 0, 0)], r"step 2 \(share\): 'a' has been allocated"),
    ],
)
def test_steps_out_of_order_are_refused(events, message):
    steps = [Event(*event) for event in events]
    with pytest.raises(ValueError, match=message):
        live_ranges(steps, {0: Slot(0, 0, 8)}, {0: "a"}, "hand: heap trace")


def test_places_that_touch_stay_apart():
    merged = merge_places([Slot(0, 8, 8), Slot(1, 0, 8), Slot(2, 4, 4)])
    assert merged == [(Slot(1, 0, 8), [1, 2]), (Slot(0, 8, 8), [0])]


BUFFER = field(1, [field(1, 3), field(2, 64), field(3, [field(2, "dot.1")])])
EVENT = field(4, [field(1, [field(2, 3)]), field(1, [field(1, 1), field(2, 3)])])
BLOCK = field(3, [field(2, 64), field(9, [field(1, 3), field(3, 64)])])


def test_a_proto_written_by_hand_is_read():
    data = field(1, [field(1, "jit_f")]) + field(3, [BUFFER, BLOCK, EVENT])
    found = parse_program(data, "hand.pb")
    assert (found.module, found.heap_bytes, found.offsets) == ("jit_f", 64, {"dot.1": 0})
    assert lives(found) == {"dot.1": (0, 1, "")}


@pytest.mark.parametrize("id", [5, 2 << 32 | 5], ids=["older", "newer"])
@pytest.mark.parametrize(
    "line", [[field(3, "a.py"), field(4, 7)], [field(15, 1)]], ids=["older", "newer"]
)
def test_older_and_newer_dumps_name_operations(id, line):
    metadata = field(7, [field(2, "jit(f)/dot"), *line])
    instruction = field(2, [field(1, "dot.1"), field(2, "dot"), metadata, field(35, id)])
    places = field(3, [field(1, 1), field(3, 7)])
    frames = field(17, [field(1, "a.py"), places, field(4, [field(1, 1)])])
    module = field(1, [field(3, [instruction, field(5, 2)]), frames])
    buffer = field(1, [field(1, 3), field(2, 64), field(3, [field(4, 2 << 32 | 5)])])
    found = parse_program(module + field(3, [buffer, BLOCK, EVENT]), "hand.pb")
    assert found.origins == {"dot.1": Origin("dot.1", "dot", "jit(f)/dot", "a.py:7")}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([BUFFER], "hand.pb: buffer assignment 0: no allocations"),
        ([BUFFER, BUFFER, BLOCK], "logical buffer 1: the id 3 is taken"),
        ([BLOCK], "allocation 0: slot 0: there is no buffer 3"),
        ([BUFFER, BLOCK, field(4, [field(1, [field(2, 4)])])], "event 0: there is no buffer 4"),
        ([BUFFER, BLOCK, field(4, [field(1, [field(1, 7)])])], "event 0: unknown kind 7"),
        (
            [BUFFER, field(3, [field(2, 32), field(9, [field(1, 3), field(3, 64)])])],
            "slot 0: buffer 3 at 0 with 64 bytes is not within the 32 bytes",
        ),
        (
            [
                BUFFER,
                field(1, [field(1, 4), field(2, 8)]),
                field(
                    3,
                    [
                        field(2, 64),
                        *(field(9, [field(1, 3 + k), field(3, 64 >> k)]) for k in (0, 1)),
                    ],
                ),
            ],
            "allocation 0 is shared over time and no heap trace says when",
        ),
    ],
)
def test_contradictions_are_refused_by_name(parts, message):
    data = field(1, [field(1, "jit_f")]) + field(3, parts)
    with pytest.raises(ValueError, match=message) as caught:
        parse_program(data, "hand.pb")
    assert "hand.pb" in str(caught.value)
