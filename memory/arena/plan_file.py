"""The arena's plan: for each request of one round of a loop its size, offset and alignment."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loomax.memory.arena.loop import Request, loop_of, program_hash
from loomax.memory.arena.orbit import LONGEST, find_orbit
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.text_file import read_text
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.pack import DEFAULT
from loomax.memory.planner.periodic import pack_periodic
from loomax.runtime.files import atomic_write

HEAD = "loomax_arena_plan"
# XLA's own alignment on CPU.
ALIGNMENT = 64
# The offset of a request that is left to libc.
LEFT = -1


@dataclass(frozen=True)
class ArenaPlan:
    """Offsets for one round of a loop of requests.

    Args:
        requests: (size, offset, alignment) in order, in bytes; `LEFT` as offset is libc's.
        bytes: of memory that the plan needs.
        lower_bound: most planned bytes that live at once.
    """

    requests: tuple[tuple[int, int, int], ...]
    bytes: int
    lower_bound: int

    @property
    def program(self) -> int:
        """What the arena recognises the program by."""
        return program_hash([size for size, _, _ in self.requests])


def plan_log(trace: Trace, config: PackConfig = DEFAULT) -> ArenaPlan:
    """Plans the loop in a recorded trace.

    Buffers that live into the next round are planned as such; those that live for up to four get
    a place in each of so many rounds. What is never freed is left to libc.

    Raises:
        ValueError: no loop is found, or as `pack`.
    """
    loop = loop_of(trace)
    needed = [_rounds(r, len(loop)) for r in loop if planned(r, len(loop))]
    if not needed:
        raise ValueError(
            f"{trace.source}: all that its loop allocates outlives it: nothing to plan"
        )
    packed = _plan_rounds(loop, max(needed), trace.source, config)
    chosen = [planned(request, len(loop)) for request in loop]
    orbit = find_orbit(loop, chosen, max(map(_alignment, loop)))
    if orbit is None or orbit.peak >= packed.bytes:
        return packed
    requests = tuple(
        (request.size, LEFT if offset is None else offset, _alignment(request))
        for offsets in orbit.offsets
        for request, offset in zip(loop, offsets, strict=True)
    )
    return ArenaPlan(requests, orbit.peak, packed.lower_bound)


def _plan_rounds(
    loop: Sequence[Request], rounds: int, source: str, config: PackConfig
) -> ArenaPlan:
    """A plan whose places come again after so many rounds."""
    repeated = [(turn * len(loop), request) for turn in range(rounds) for request in loop]
    records = [
        _lifetime(str(position), request, shift)
        for position, (shift, request) in enumerate(repeated)
        if planned(request, len(loop))
    ]
    plan = pack_periodic(Trace(tuple(records), source), rounds * len(loop), config)
    requests = tuple(
        (request.size, plan.offsets.get(str(position), LEFT), _alignment(request))
        for position, (_, request) in enumerate(repeated)
    )
    return ArenaPlan(requests, plan.peak, plan.lower_bound)


def planned(request: Request, length: int) -> bool:
    """Whether a request has a place in the plan of a loop of this length."""
    return request.death is not None and _rounds(request, length) <= LONGEST


def write_plan(plan: ArenaPlan, path: str | Path) -> None:
    """Writes a plan, one request a line."""
    rows = ",\n".join(json.dumps(list(request)) for request in plan.requests)
    head = f'"{HEAD}": 1, "program": "{plan.program:016x}", "bytes": {plan.bytes}'
    atomic_write(path, f'{{{head}, "lower_bound": {plan.lower_bound}, "requests": [\n{rows}\n]}}\n')


def read_plan(path: str | Path) -> ArenaPlan:
    """The plan in a file.

    Raises:
        ValueError: the file cannot be read, is no plan, or is damaged; the message says where.
    """
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(data, dict) or HEAD not in data:
        raise ValueError(f"{path}: not a plan of the arena: it has no {HEAD!r}")
    for name, kind in (("bytes", int), ("lower_bound", int), ("program", str), ("requests", list)):
        if not isinstance(data.get(name), kind):
            raise ValueError(f"{path}: {name} is {data.get(name)!r}: it must be {kind.__name__}")
    for at, request in enumerate(data["requests"], 1):
        _check(request, data["bytes"], f"{path}: request {at}")
    if not data["requests"]:
        raise ValueError(f"{path}: it has no requests")
    plan = ArenaPlan(tuple(map(tuple, data["requests"])), data["bytes"], data["lower_bound"])
    if f"{plan.program:016x}" != data["program"]:
        raise ValueError(
            f"{path}: the sizes have the hash {plan.program:016x}, and the file says "
            f"{data['program']}: it is damaged; plan again"
        )
    return plan


def _check(request: Any, bytes_: int, where: str) -> None:
    whole = isinstance(request, list) and all(type(value) is int for value in request)
    if not whole or len(request) != 3:
        raise ValueError(f"{where}: {request!r} is not [size, offset, alignment]")
    size, offset, alignment = request
    if size < 0 or offset < LEFT:
        raise ValueError(f"{where}: size {size} and offset {offset}: neither may be negative")
    if alignment < 1 or alignment & (alignment - 1) or (offset != LEFT and offset % alignment):
        raise ValueError(f"{where}: offset {offset} is no multiple of a power of two {alignment}")
    if offset + size > bytes_:
        raise ValueError(f"{where}: it ends at {offset + size}, beyond {bytes_} bytes")


def _rounds(request: Request, length: int) -> int:
    """Rounds after which a place of its own is free again."""
    return 1 if request.death is None else -(-(request.death - request.birth) // length)


def _alignment(request: Request) -> int:
    return max(request.alignment, ALIGNMENT)


def _lifetime(name: str, request: Request, shift: int) -> Lifetime:
    return Lifetime(
        name, request.size, request.birth + shift, request.death + shift, _alignment(request)
    )
