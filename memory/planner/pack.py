"""Packs a trace: the compiled planner, or its twin where there is none. Imports no JAX."""

import time
from collections.abc import Sequence
from dataclasses import replace

from loomax.jaxlib_ext import planner as native
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import MOST_BYTES, Trace, blocks
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.gaps import share_gaps
from loomax.memory.planner.groups import pack_groups
from loomax.memory.planner.plan import Plan
from loomax.memory.planner.twin.rounds import Found, Options, make_plan

DEFAULT = PackConfig()


def pack(trace: Trace, config: PackConfig = DEFAULT) -> Plan:
    """Offsets for the buffers of a trace.

    With a capacity the plan is the first one found that keeps to it; when the time is over, or
    there is none, it is the best plan there is, and its peak says so.

    Raises:
        ValueError: more than `config.capacity` bytes are live at once, so that nothing can fit.
    """
    start = time.perf_counter()
    if config.capacity is not None and trace.lower_bound > config.capacity:
        raise ValueError(
            f"capacity is {config.capacity}: {trace.lower_bound} bytes are live at once in "
            f"{trace.source}: give at least that"
        )
    records = blocks(trace.records)
    offsets, found = _offsets(records, config)
    by_group = {record.alias: offsets[record.id] for record in records if record.alias}
    every = {
        record.id: by_group[record.alias] if record.alias else offsets[record.id]
        for record in trace.records
    }
    return Plan(
        every,
        found.peak,
        max(found.lower_bound, trace.lower_bound),
        time.perf_counter() - start,
        found.method,
        found.nodes,
        native.available(),
    )


def _offsets(records: Sequence[Lifetime], config: PackConfig) -> tuple[dict[str, int], Found]:
    """Offsets by name; buffers without bytes lie at 0."""
    sized = [record for record in records if record.size > 0]
    offsets = {record.id: 0 for record in records}
    if not sized:
        return offsets, Found([], 0, 0, "greedy")
    unit, sizes = common_alignment(sized)
    if config.strategy == "groups":
        # A group is small: two rounds are enough.
        inside = replace(config, capacity=None, rounds=2)
        found = pack_groups(
            sized,
            sizes,
            lambda low, high, size: _solve(low, high, size, unit, inside),
            lambda low, high, size: _solve(low, high, size, unit, config),
        )
    else:
        lower = [record.birth for record in sized]
        upper = [record.death for record in sized]
        found = _solve(lower, upper, sizes, unit, config)
    gapped = any(record.gaps for record in sized)
    if gapped:
        found = share_gaps(sized, sizes, found)
    offsets |= {record.id: offset for record, offset in zip(sized, found.offsets, strict=True)}
    if gapped or sizes != [record.padded for record in sized]:
        # Proved for sizes that are padded more than they need, or without gaps: it says nothing of
        # the trace.
        found.lower_bound = 0
    return offsets, found


def common_alignment(records: Sequence[Lifetime]) -> tuple[int, list[int]]:
    """An alignment that suits all, and the sizes in multiples of it.

    Where every offset is a sum of sizes, sizes that are multiples keep all offsets aligned. With
    powers of two, which alignments are, the largest suits all.

    Raises:
        ValueError: the alignments do not divide the largest one, or the sizes sum to over 2**60.
    """
    unit = max(record.alignment for record in records)
    for record in records:
        if unit % record.alignment:
            raise ValueError(
                f"buffer {record.id!r}: alignment {record.alignment} does not divide {unit}, the "
                "largest one: use powers of two"
            )
    sizes = [-(-record.size // unit) * unit for record in records]
    if sum(sizes) > MOST_BYTES:
        raise ValueError(
            f"sizes that are rounded up to {unit}, the largest alignment, sum to {sum(sizes)}: "
            "over 2**60"
        )
    return unit, sizes


def _solve(
    lower: Sequence[int], upper: Sequence[int], size: Sequence[int], unit: int, config: PackConfig
) -> Found:
    """Runs the compiled planner, or its twin, on padded sizes."""
    common = dict(
        capacity=-1 if config.capacity is None else config.capacity // unit * unit,
        seed=config.seed,
        moves=config.moves,
        rounds=-1 if config.rounds is None else config.rounds,
        seconds=config.seconds,
        gap=config.gap,
    )
    if not native.available():
        return make_plan(lower, upper, size, Options(**common))
    made = native.pack(lower, upper, size, threads=config.threads, **common)
    return Found(made.offsets, made.peak, made.lower_bound, made.method, made.nodes)
