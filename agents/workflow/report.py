"""What a person is told about a plan. Imports no JAX."""

import math

from loomax.agents.workflow.fit import fit
from loomax.agents.workflow.gantt import text
from loomax.agents.workflow.plan.choose import Choice
from loomax.agents.workflow.plan.tree import Chunks, Plan, Run, Shared, cost, walk
from loomax.agents.workflow.profile import Profile
from loomax.agents.workflow.simulate import simulate
from loomax.agents.workflow.tasks import placements

ESTIMATED = (
    "estimate   nothing ran: all seconds are the compiler's own; a loop whose rounds depend on "
    "data counts as one"
)


def describe(choice: Choice, profile: Profile, name: str = "workflow") -> str:
    """The plan, its timeline, its rivals and how far the profile can be trusted."""
    problem, hardware = choice.problem, choice.problem.hardware
    timeline = simulate(choice.plan, parts=parts(choice))
    lines = [
        f"{name}: {len(problem.units)} units, {problem.batch} items, {hardware.devices} x "
        f"{hardware.kind} with {_size(hardware.memory_bytes)}",
        f"plan       {sketch(choice.plan)}",
        f"predicted  {choice.seconds:.4g} s an iteration, stages run in {timeline.busy:.1%} of the "
        f"device time, peak {_size(choice.cost.peak_bytes)} (planned in {choice.search_s:.2g} s)",
        *([ESTIMATED] if profile.source == "estimate" else []),
        "",
        *_programs(choice.plan),
        *_swaps(choice.plan),
        "",
        text(timeline),
        "",
        *_rivals(choice),
        "",
        *_trust(choice, profile),
    ]
    return "\n".join(lines)


def parts(choice: Choice) -> dict[str, tuple[tuple[str, float, int], ...]]:
    """The stages of the units that are cycles, for the timeline."""
    return {unit.name: unit.parts for unit in choice.problem.units if unit.parts}


def sketch(plan: Plan, inside: bool = False) -> str:
    """A plan in one line: `+` fused, `,` time-shared, `~` with swaps, `|` on disjoint devices."""
    if isinstance(plan, Run):
        if plan.ring is None:
            return f"{'+'.join(plan.units)} @{plan.devices}"
        stations = " | ".join(f"{s.stage} @{s.devices or 'host'}" for s in plan.ring.stations)
        return f"ring({stations}, {plan.ring.turns} turns)"
    if isinstance(plan, Chunks):
        return f"{plan.count} x {sketch(plan.child, True)}"
    sign = (" ~ " if plan.swap else ", ") if isinstance(plan, Shared) else " | "
    written = f"{sketch(plan.first, True)}{sign}{sketch(plan.second, True)}"
    return f"({written})" if inside else written


def _programs(plan: Plan) -> list[str]:
    rows = [("devices", "program", "items", "seconds", "resident", "peak")]
    for run, devices in placements(plan):
        where = f"{devices.start}-{devices.stop - 1}" if run.devices > 1 else f"{devices.start}"
        peak = run.resident_bytes + run.working_bytes
        sizes = _size(run.resident_bytes), _size(peak)
        rows.append((where, "+".join(run.units), str(run.batch), f"{run.seconds:.4g}", *sizes))
    return _table(rows)


def _swaps(plan: Plan) -> list[str]:
    seconds = sum(node.swap_s for node in walk(plan) if isinstance(node, Shared))
    return [f"residents that wait are in host memory: {seconds:.4g} s a pass"] if seconds else []


def _rivals(choice: Choice) -> list[str]:
    rows = [("instead", "seconds", "slower", "plan")]
    for name, plan in choice.rivals.items():
        if plan is None:
            rows.append((name, "-", "-", "does not fit or may not be fused"))
        else:
            seconds = cost(plan).latency_s
            rows.append((name, f"{seconds:.4g}", f"{seconds / choice.seconds:.2f}x", sketch(plan)))
    return _table(rows)


def _used(run: Run, profile: Profile) -> set[tuple[str, int, int]]:
    """The names, batches and device counts of the profile that a program's cost is from."""
    if run.ring is not None:
        part = run.batch // run.ring.turns
        return {(_stage(s.stage), part, s.devices) for s in run.ring.stations}
    return {
        (name, run.batch, run.devices)
        for unit in run.units
        for name in ([unit] if unit in profile.stages else map(_stage, unit.split("+")))
    }


def _stage(call: str) -> str:
    return call.partition("#")[0]


def _trust(choice: Choice, profile: Profile) -> list[str]:
    """The error of each stage's fit, and whether the plan relies on what is beyond it."""
    used = set().union(*(_used(run, profile) for run, _ in placements(choice.plan)))
    background = frozenset().union(*(unit.background for unit in choice.problem.units))
    known = "estimated" if profile.source == "estimate" else "measured"
    rows = [("profile", "error", "left out", known)]
    for name, stage in profile.stages.items():
        found = fit(stage, name in background)
        items = [item.batch for item in stage.measurements]
        devices = [item.devices for item in stage.measurements]
        span = f"{min(items)}-{max(items)} items on {min(devices)}-{max(devices)} devices"
        beyond = any(not found.inside(batch, count) for unit, batch, count in used if unit == name)
        left_out = f"{found.left_out_error:.1%}" if math.isfinite(found.left_out_error) else "-"
        mark = ", the plan goes beyond" if beyond else ""
        rows.append((name, f"{found.error:.1%}", left_out, span + mark))
    return _table(rows)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _size(number: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number:.0f} B"
