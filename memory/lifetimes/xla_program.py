"""What XLA decided about one program's memory, as a trace with XLA's own offsets. No JAX."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.lifetimes.xla_heap import Life, live_ranges, merge_places, overlap
from loomax.memory.lifetimes.xla_proto import Allocation, Assignment, Event, Origin, Slot

# XLA:CPU's alignment of buffers (xla/cpu_function_runtime.h); that of others is at least this.
MOST_ALIGNMENT = 64


@dataclass(frozen=True)
class XlaProgram:
    """One program's buffers.

    Args:
        module: name of the HLO module.
        heap: temporaries within the one block that XLA plans; times are XLA's steps.
        offsets: where XLA put each of them.
        heap_bytes: size of the block.
        residents: parameters, outputs, constants and other blocks: XLA takes each for the whole
            call. What XLA stores in an output before it is written is not listed.
        origins: of each buffer of both.
        left_out: buffers without a lifetime that share bytes with ones that have one.
    """

    module: str
    heap: Trace
    offsets: Mapping[str, int]
    heap_bytes: int
    residents: Trace
    origins: Mapping[str, Origin]
    left_out: tuple[str, ...] = ()

    @property
    def heap_peak(self) -> int:
        """XLA's heap, rounded to its alignment as every plan's peak is."""
        alignment = max((record.alignment for record in self.heap.records), default=1)
        return -(-self.heap_bytes // alignment) * alignment

    @property
    def ratio(self) -> float:
        """XLA's heap over the lower bound: 1 is the best possible."""
        bound = self.heap.lower_bound
        return self.heap_peak / bound if bound else 1.0

    @property
    def peak(self) -> int:
        """Bytes of all blocks together, which is what a call takes."""
        return self.heap_bytes + sum(record.size for record in self.residents.records)

    @property
    def trace(self) -> Trace:
        """All buffers, each with its lifetime."""
        return Trace(self.heap.records + self.residents.records, self.heap.source)


def program_of(
    assignment: Assignment, origins: Mapping[int | str, Origin], module: str, source: str
) -> XlaProgram:
    """Lifetimes and offsets from a buffer assignment.

    Memory other than the device's main one and thread-local scratch are left out.

    Raises:
        ValueError: the assignment contradicts itself, or lacks the steps of XLA's allocator.
    """
    names, known = _names(assignment, origins)
    blocks = [
        block for block in assignment.allocations if not block.color and not block.thread_local
    ]
    main, events = _main_block(blocks, assignment.traces, source)
    end = max(len(events), 1)
    heap, offsets, left_out = _heap(main, events, names, source) if main else ((), {}, ())
    residents = [_resident(block, end, names, known) for block in blocks if block is not main]
    records = _unique(residents, taken=[record.id for record in heap])
    origin = {record.id: known.get(record.id, Origin("")) for record in heap}
    for before, record in zip(residents, records, strict=True):
        origin[record.id] = known.get(before.id, Origin(""))
    return XlaProgram(
        module,
        Trace(tuple(heap), source),
        offsets,
        main.size if main else 0,
        Trace(tuple(records), source),
        origin,
        left_out,
    )


def _names(
    assignment: Assignment, origins: Mapping[int | str, Origin]
) -> tuple[dict[int, str], dict[str, Origin]]:
    """Name of each buffer, by its id, and origin by that name."""
    names, known = {}, {}
    for id, buffer in assignment.buffers.items():
        unnamed = f"instruction {buffer.instruction}"
        origin = origins.get(buffer.instruction) or Origin(
            buffer.instruction if isinstance(buffer.instruction, str) else unnamed
        )
        part = "".join(f"{{{at}}}" for at in buffer.part)
        name = origin.instruction + part
        names[id] = f"{name}#{id}" if name in known else name
        known[names[id]] = origin
    return names, known


def _main_block(
    blocks: Sequence[Allocation], traces: Sequence[Sequence[Event]], source: str
) -> tuple[Allocation | None, Sequence[Event]]:
    """The block that XLA's steps speak of, by bytes: the number that dumps give is stale."""
    best: tuple[int, Allocation | None, Sequence[Event]] = (0, None, ())
    for events in traces:
        spoken = {event.buffer for event in events}
        for block in blocks:
            size = sum(slot.size for slot in block.slots if slot.buffer in spoken)
            if size > best[0] and not (block.parameter or block.output or block.constant):
                best = (size, block, events)
    if best[1] is None and not traces:
        _check_needless(blocks, source)
    return best[1:]


def _check_needless(blocks: Sequence[Allocation], source: str) -> None:
    for block in blocks:
        if block.parameter or block.output or block.constant:
            continue
        for place, members in merge_places(block.slots):
            if any(slot.size != place.size for slot in block.slots if slot.buffer in members):
                raise ValueError(
                    f"{source}: allocation {block.index} is shared over time and no heap trace "
                    "says when: dump with --xla_dump_hlo_as_proto"
                )


def _heap(
    block: Allocation, events: Sequence[Event], names: Mapping[int, str], source: str
) -> tuple[tuple[Lifetime, ...], dict[str, int], tuple[str, ...]]:
    """Records of a block, their offsets, and names of those that were left out."""
    slots = {slot.buffer: slot for slot in block.slots}
    if len(slots) != len(block.slots):
        raise ValueError(f"{source}: allocation {block.index} holds a buffer twice")
    lives = live_ranges(events, slots, names, f"{source}: heap trace")
    timed = {life.slot.buffer for life in lives}
    left_out: list[str] = []
    # Tables of tuples have no steps; they lie in bytes of their own for the whole call.
    others = merge_places([slot for slot in block.slots if slot.buffer not in timed])
    for at, (place, members) in enumerate(others):
        if any(overlap(life.slot, place) for life in lives):
            left_out += [names[buffer] for buffer in members]
        else:
            place = Slot(members[0], place.offset, place.size)
            lives.append(Life(place, 0, max(len(events), 1), (-1, at)))
    alignment = MOST_ALIGNMENT
    while any(life.slot.offset % alignment for life in lives):
        alignment //= 2
    shared = Counter(life.group for life in lives)
    records = tuple(_temporary(life, alignment, shared, names) for life in lives)
    offsets = {names[life.slot.buffer]: life.slot.offset for life in lives}
    return records, offsets, tuple(left_out)


def _temporary(
    life: Life, alignment: int, shared: Counter[tuple[int, int]], names: Mapping[int, str]
) -> Lifetime:
    root, piece = life.group
    alias = ""
    if shared[life.group] > 1:
        alias = names[root] + (f"+{piece}" if piece else "")
    slot, name = life.slot, names[life.slot.buffer]
    return Lifetime(name, slot.size, life.birth, life.death, alignment, "temporary", alias=alias)


def _resident(
    block: Allocation, end: int, names: Mapping[int, str], known: Mapping[str, Origin]
) -> Lifetime:
    """A block that is there for the whole call, named after what it is for."""
    kind = "temporary"
    if block.parameter:
        kind = "donated" if block.output else "parameter"
    elif block.output or block.constant:
        kind = "output" if block.output else "constant"
    within = [names[slot.buffer] for slot in block.slots if slot.size == block.size]
    within = within or [names[slot.buffer] for slot in block.slots]
    if block.parameter:
        within.sort(key=lambda name: known[name].opcode != "parameter")
    elif block.output:
        within.reverse()
    name = within[0] if within else f"allocation {block.index}"
    return Lifetime(name, block.size, 0, end, kind=kind)


def _unique(records: Sequence[Lifetime], taken: Sequence[str]) -> list[Lifetime]:
    seen, found = set(taken), []
    for at, record in enumerate(records):
        if record.id in seen:
            record = replace(record, id=f"{record.id} (block {at})")
        seen.add(record.id)
        found.append(record)
    return found
