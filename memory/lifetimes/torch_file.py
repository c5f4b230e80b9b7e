"""PyTorch's memory snapshots: what `torch.cuda.memory._dump_snapshot` writes.

`device_traces` has a list of events for each device, in order; `segments` what was allocated when
the snapshot was taken. The file is read as plain containers: PyTorch is not needed, and nothing in
it is run (`plain_pickle`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loomax.memory.lifetimes.plain_pickle import read_plain_pickle
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace

# The caching allocator hands out multiples of this, at such addresses.
ALIGNMENT = 512
# Of buffers that were there before the first event, and that are there after the last.
BEFORE, OPEN, RESIDENT = "before", "open", "resident"
ALLOCATED = "active_allocated"
FREES = ("free_requested", "free_completed")
MOST_EVENTS = 50_000_000


def read_torch(path: str | Path, device: int | None = None) -> Trace:
    """The trace of one device in a snapshot file.

    Raises:
        ValueError: the file cannot be read, holds more than plain containers, or as
            `parse_snapshot`.
    """
    return parse_snapshot(read_plain_pickle(path), str(path), device)


def parse_snapshot(snapshot: Any, source: str, device: int | None = None) -> Trace:
    """The trace of one device in a snapshot.

    Times count events. A buffer lives from `alloc` until its memory can be used again,
    `free_completed` (or `free_requested`, where the snapshot has no other). What is freed without
    an `alloc` was there before (kind "before"); what is not freed lives to the end ("open"); blocks
    in use that no event names live throughout ("resident"). Alignment is 512.

    Args:
        device: whose events; None: of the only device that has any.

    Raises:
        ValueError: it is no snapshot, several devices have events and none was chosen, or an event
            is broken; the message names it.
    """
    traces = snapshot.get("device_traces") if isinstance(snapshot, dict) else None
    if not isinstance(traces, list) or not all(isinstance(trace, list) for trace in traces):
        raise ValueError(f"{source}: not a memory snapshot: it has no lists 'device_traces'")
    chosen = _device(traces, source, device)
    events = traces[chosen]
    if len(events) > MOST_EVENTS:
        raise ValueError(f"{source}: {len(events)} events: at most {MOST_EVENTS} are read")
    reader = _Reader(source, any(_action(event) == FREES[1] for event in events))
    for time, event in enumerate(events, 1):
        reader.take(event, time)
    resident = _allocated(snapshot.get("segments"), chosen, source)
    return Trace(tuple(reader.finish(len(events) + 1, resident)), source)


def _device(traces: Sequence[list], source: str, device: int | None) -> int:
    busy = [index for index, trace in enumerate(traces) if trace]
    if device is None and len(busy) == 1:
        return busy[0]
    if device is None and busy:
        numbers = ", ".join(map(str, busy))
        raise ValueError(f"{source}: devices {numbers} have events: choose one with device")
    if device is not None and 0 <= device < len(traces) and traces[device]:
        return device
    which = "no device" if device is None else f"device {device}"
    raise ValueError(
        f"{source}: {which} has events: they are recorded after "
        "torch.cuda.memory._record_memory_history()"
    )


def _action(event: Any) -> Any:
    return event.get("action") if isinstance(event, dict) else None


class _Reader:
    """Events of a device, one after the other."""

    def __init__(self, source: str, completes: bool):
        self.source, self.end = source, FREES[completes]
        self.open: dict[int, tuple[int, int]] = {}  # address -> size, time
        self.made: list[Lifetime] = []

    def take(self, event: Any, time: int) -> None:
        action = _action(event)
        where = f"{self.source}: event {time}"
        if not isinstance(action, str):
            raise ValueError(f"{where}: it has no 'action'")
        # Segments, running out of memory, snapshots: nothing that a tensor holds.
        if action not in ("alloc", self.end):
            return
        address, size = (_number(event, name, where) for name in ("addr", "size"))
        if action == "alloc":
            if address in self.open:
                raise ValueError(
                    f"{where}: address {address:#x} is in use since event {self.open[address][1]}"
                )
            self.open[address] = size, time
        else:
            known, birth = self.open.pop(address, (size, 0))
            self.add(known, birth, time, BEFORE if birth == 0 else "")

    def add(self, size: int, birth: int, death: int, kind: str) -> None:
        self.made.append(Lifetime(str(len(self.made)), size, birth, death, ALIGNMENT, kind))

    def finish(self, end: int, resident: Mapping[int, int]) -> list[Lifetime]:
        for size, birth in self.open.values():
            self.add(size, birth, end, OPEN)
        for address, size in resident.items():
            if address not in self.open:
                self.add(size, 0, end, RESIDENT)
        return self.made


def _number(event: Any, name: str, where: str) -> int:
    value = event.get(name) if isinstance(event, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{where}: {name} is {str(value)[:40]!r}: it must be a whole number")
    return value


def _allocated(segments: Any, device: int, source: str) -> dict[int, int]:
    """Sizes by address of the blocks of a device that are in use."""
    found: dict[int, int] = {}
    for segment in segments if isinstance(segments, list) else ():
        if not isinstance(segment, dict) or segment.get("device", 0) != device:
            continue
        at = segment.get("address", 0)
        for block in segment.get("blocks", ()):
            size = _number(block, "size", f"{source}: segments")
            # Old snapshots leave the address out: blocks follow each other.
            at = block.get("address", at)
            if block.get("state") == ALLOCATED:
                found[at] = size
            at += size
    return found
