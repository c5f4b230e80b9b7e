"""XLA's HloProto: the buffer assignment and the names of instructions. Imports no JAX.

Field numbers are those of xla/service/hlo.proto and xla/xla_data.proto.
"""

from dataclasses import dataclass

from loomax.memory.lifetimes.xla_wire import Message

ALLOC, FREE, SHARE = 0, 1, 2
EVENTS = ("alloc", "free", "share")


@dataclass(frozen=True)
class Origin:
    """Where a buffer comes from.

    Args:
        instruction: name of the HLO instruction.
        opcode: what that does, such as "fusion"; empty if unknown.
        op_name: path of JAX functions and the primitive; empty if unknown.
        line: "file:line" of the source; empty if unknown.
    """

    instruction: str
    opcode: str = ""
    op_name: str = ""
    line: str = ""


@dataclass(frozen=True)
class Buffer:
    """A logical buffer: the result of `instruction`, or a part of it."""

    id: int
    size: int
    instruction: int | str
    part: tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """Where in an allocation a buffer lies."""

    buffer: int
    offset: int
    size: int


@dataclass(frozen=True)
class Allocation:
    """One block of memory that XLA asks for. `color` other than 0 is another memory."""

    index: int
    size: int
    color: int
    slots: tuple[Slot, ...]
    parameter: bool
    output: bool
    constant: bool
    thread_local: bool


@dataclass(frozen=True)
class Event:
    """Step of XLA's allocator; `other` is the buffer whose memory a share takes."""

    kind: int
    buffer: int
    other: int


@dataclass(frozen=True)
class Assignment:
    """A buffer assignment."""

    buffers: dict[int, Buffer]
    allocations: tuple[Allocation, ...]
    traces: tuple[tuple[Event, ...], ...]


def decode_assignment(message: Message) -> Assignment:
    """The buffer assignment in a BufferAssignmentProto.

    Raises:
        ValueError: it is damaged.
    """
    where = message.where
    buffers: dict[int, Buffer] = {}
    for item in message.messages(1, "logical buffer"):
        buffer = _buffer(item)
        if buffer.id in buffers:
            raise ValueError(f"{item.where}: the id {buffer.id} is taken")
        buffers[buffer.id] = buffer
    allocations = tuple(_allocation(item, buffers) for item in message.messages(3, "allocation"))
    if not allocations:
        raise ValueError(f"{where}: no allocations: it is no buffer assignment, or damaged")
    traces = tuple(
        tuple(_event(item, buffers) for item in trace.messages(1, "event"))
        for trace in message.messages(4, "heap trace")
    )
    return Assignment(buffers, allocations, traces)


def _buffer(item: Message) -> Buffer:
    size = item.number(2)
    if size < 0:
        raise ValueError(f"{item.where}: size is {size}: it must be 0 or more")
    (place,) = item.messages(3, "place") or (Message(b"", item.where),)
    # Older dumps name the instruction, newer ones give (computation << 32 | id).
    instruction = place.text(2) or place.number(4)
    return Buffer(item.number(1), size, instruction, place.numbers(3))


def _allocation(item: Message, buffers: dict[int, Buffer]) -> Allocation:
    size, slots = item.number(2), []
    for assigned in item.messages(9, "slot"):
        slot = Slot(assigned.number(1), assigned.number(2), assigned.number(3))
        if slot.buffer not in buffers:
            raise ValueError(f"{assigned.where}: there is no buffer {slot.buffer}")
        if slot.offset < 0 or slot.size < 0 or slot.offset + slot.size > size:
            raise ValueError(
                f"{assigned.where}: buffer {slot.buffer} at {slot.offset} with {slot.size} bytes "
                f"is not within the {size} bytes of the allocation"
            )
        slots.append(slot)
    return Allocation(
        item.number(1),
        size,
        item.number(8),
        tuple(slots),
        parameter=bool(item.number(5)),
        output=bool(item.number(7)),
        constant=bool(item.number(12)),
        thread_local=bool(item.number(3)),
    )


def _event(item: Message, buffers: dict[int, Buffer]) -> Event:
    event = Event(item.number(1), item.number(2), item.number(5))
    if not 0 <= event.kind < len(EVENTS):
        raise ValueError(f"{item.where}: unknown kind {event.kind}")
    for buffer in (event.buffer, event.other) if event.kind == SHARE else (event.buffer,):
        if buffer not in buffers:
            raise ValueError(f"{item.where}: there is no buffer {buffer}")
    return event


def decode_origins(module: Message) -> dict[int | str, Origin]:
    """Origin of each instruction of an HloModuleProto, by its id and by its name."""
    lines = _frame_lines(module)
    found: dict[int | str, Origin] = {}
    for computation in module.messages(3, "computation"):
        owner = computation.number(5)
        for item in computation.messages(2, "instruction"):
            (data,) = item.messages(7, "metadata")[:1] or (Message(b"", item.where),)
            line = lines.get(data.number(15), "")
            if not line and data.text(3):
                line = f"{data.text(3)}:{data.number(4)}"
            origin = Origin(item.text(1), item.text(2), data.text(2), line)
            id = item.number(35)
            # Older dumps give the id within the computation only.
            found[id if id >= 2**32 else owner << 32 | id] = origin
            found[origin.instruction] = origin
    return found


def _frame_lines(module: Message) -> dict[int, str]:
    """ "file:line" of each stack frame; frames, places and files count from 1."""
    found: dict[int, str] = {}
    for index in module.messages(17, "stack frames"):
        files = index.texts(1)
        places = index.messages(3, "place")
        for at, frame in enumerate(index.messages(4, "frame"), 1):
            place = frame.number(1)
            if not 0 < place <= len(places):
                continue
            file = places[place - 1].number(1)
            if 0 < file <= len(files):
                found[at] = f"{files[file - 1]}:{places[place - 1].number(3)}"
    return found
