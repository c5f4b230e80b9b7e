"""How long does an allocation take at run time?  Part of: loomax bench memory

One iteration of a pipelined mixture of experts (about 10^4 planned buffers, and half as many whose
sizes change) in `Planned`, compiled and as its Python twin, after one from which lifetimes are
learned. Both must give the same addresses.

Row: online/malloc_us, microseconds of CPU time of all events over the number of allocations, so
that it holds a free for each allocation.
"""

import statistics
import time
from collections.abc import Sequence

import numpy as np

from benchmarks._memory_traces import MOE
from benchmarks._rows import Row, compare, take_turns
from loomax.jaxlib_ext import online
from loomax.memory.allocator.planned import Planned
from loomax.memory.allocator.planned_native import PlannedNative, run
from loomax.memory.allocator.replay import events
from loomax.memory.allocator.room import static_part
from loomax.memory.lifetimes.pipeline import pipeline_trace
from loomax.memory.lifetimes.pipeline_config import PipelineConfig
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.pack import pack

BENCH = "memory"
# The twin takes most of the time: it runs once, after a warm-up.
REPLAYS = 9
Events = Sequence[tuple[bool, Lifetime]]


class Case:
    """A plan, what is learned before, and the events of the next iteration."""

    def __init__(self, config: PipelineConfig):
        profiled, trace = pipeline_trace(config), pipeline_trace(config, 1)
        self.events = events(trace)
        self.fixed = static_part(profiled)
        self.offsets = pack(self.fixed, PackConfig(seconds=10.0, rounds=0)).offsets
        before = PlannedNative(self.fixed, self.offsets)
        run(before, events(profiled))
        self.learned = before.learned()
        self.count = sum(born for born, _ in self.events)
        self.addresses: dict[str, list[int]] = {}

    def native(self) -> float:
        """Microseconds an allocation in the compiled allocator, median of REPLAYS."""
        return statistics.median(self._native() for _ in range(REPLAYS))

    def _native(self) -> float:
        allocator = PlannedNative(self.fixed, self.offsets, self.learned)
        numbers = np.array([allocator.number(record.id) for _, record in self.events])
        sizes = np.array([record.size if born else -1 for born, record in self.events])
        start = time.thread_time()
        found = allocator.replay(numbers, sizes)
        spent = time.thread_time() - start
        self.addresses["native"] = found[sizes >= 0].tolist()
        return spent / self.count * 1e6

    def twin(self) -> float:
        """Microseconds an allocation in the twin."""
        allocator = Planned(self.fixed, self.offsets, self.learned)
        found = []
        start = time.thread_time()
        for born, record in self.events:
            if born:
                found.append(allocator.malloc(record.id, record.size))
            else:
                allocator.free(record.id)
        spent = time.thread_time() - start
        self.addresses["twin"] = found
        return spent / self.count * 1e6


def rows(quick: bool) -> list[Row]:
    """The compiled allocator against its twin; nothing where there is none."""
    if not online.available():
        print("online: there is no compiled allocator to measure")
        return []
    layers, microbatches = (1, 4) if quick else (8, 8)
    case = Case(PipelineConfig(MOE, layers=layers, microbatches=microbatches))
    live = most = 0
    for born, _ in case.events:
        live += 1 if born else -1
        most = max(most, live)
    print(f"online: {len(case.fixed.records)} planned, {case.count} allocations, {most} live")
    samples = take_turns({"online": case.native, "online-twin": case.twin}, 1)
    if case.addresses["native"] != case.addresses["twin"]:
        raise ValueError("the compiled allocator and its twin give different addresses")
    return compare(BENCH, "malloc_us", "us", samples, "online", ["online-twin"], "lower")
