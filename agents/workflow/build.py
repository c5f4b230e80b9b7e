"""From a workflow and its profile to a planning problem. Imports no JAX."""

import math
from dataclasses import replace
from functools import partial

from loomax.agents.workflow.cycles import divisors, rings, together
from loomax.agents.workflow.fit import Fit, fit
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.problem import Link, Option, Options, Problem, Unit
from loomax.agents.workflow.profile import Profile
from loomax.agents.workflow.workflow import Group, Workflow, condense


def problem_of(workflow: Workflow, profile: Profile, hardware: Hardware) -> Problem:
    """The problem of placing a workflow.

    A cycle is one unit. On shared devices it costs what the profile says of the cycle as it ran,
    under the joined name of its stages, else the sum of its stages' calls. If every stage was
    profiled, it may also run as a ring on disjoint devices.

    Raises:
        ValueError: the profile is from another kind of device, or lacks a stage.
    """
    if profile.device_kind != hardware.kind:
        raise ValueError(
            f"the profile is of {profile.device_kind!r}, the devices are {hardware.kind!r}: "
            "profile on those"
        )
    workflow = _with_measured_sizes(workflow, profile)
    groups, links = condense(workflow)
    units = tuple(_unit(group, workflow, profile, hardware) for group in groups)
    flows = tuple(Link(*pair, size) for pair, size in links.items())
    return Problem(units, flows, workflow.batch, hardware)


def _with_measured_sizes(workflow: Workflow, profile: Profile) -> Workflow:
    """Edges with the bytes that the profile says, where it says any."""
    edges = []
    for edge in workflow.edges:
        stage = workflow.call(edge.source).stage
        said = profile.stages[stage].transfer_bytes_per_item if stage in profile.stages else None
        edges.append(edge if said is None else replace(edge, bytes_per_item=said))
    return replace(workflow, edges=tuple(edges))


def _unit(group: Group, workflow: Workflow, profile: Profile, hardware: Hardware) -> Unit:
    calls = group.calls
    fusable = all(call.fusable for call in calls)
    splits = all(call.batch_axis is not None for call in calls)
    joined = "+".join(call.stage for call in calls)
    shares = calls[0].resident_shares if len(calls) == 1 else ()
    if len(calls) > 1 and joined in profile.stages:
        whole = fit(profile.stages[joined])
        parts = tuple((call.name, 1 / len(calls), call.times) for call in calls)
        if not all(call.stage in profile.stages for call in calls):
            return Unit(group.name, partial(_measured, whole), fusable, splits, parts, shares)
    else:
        whole = None
    fits = [fit(profile.stage(call.stage), call.background) for call in calls]
    options = _options(group, fits, whole, workflow, hardware)
    parts = _parts(group, fits, workflow.batch) if len(calls) > 1 else ()
    background = frozenset(call.stage for call in calls if call.background)
    return Unit(group.name, options, fusable, splits, parts, shares, background)


def _measured(whole: Fit, batch: int, most: int) -> tuple[Option, ...]:
    return tuple(whole.option(batch, n) for n in divisors(batch, most))


def _options(
    group: Group, fits: list[Fit], whole: Fit | None, workflow: Workflow, hardware: Hardware
) -> Options:
    calls = group.calls
    # One program needs one dispatch, which the planner adds; else each call of a cycle needs one.
    in_program = len(calls) == 1 and calls[0].times == 1 or all(call.fusable for call in calls)
    call_s = 0.0 if in_program else hardware.dispatch_s
    multiple = math.lcm(*(call.multiple for call in calls))

    def bytes_per_item(index: int) -> float:
        source, target = calls[index].name, calls[(index + 1) % len(calls)].name
        return sum(
            e.bytes_per_item for e in workflow.edges if (e.source, e.target) == (source, target)
        )

    def options(batch: int, most: int) -> tuple[Option, ...]:
        if batch != workflow.batch and batch % multiple:
            return ()
        if whole is not None:
            shared = list(_measured(whole, batch, most))
        else:
            shared = [together(calls, fits, batch, n, call_s) for n in divisors(batch, most)]
        return (*shared, *rings(calls, fits, batch, most, hardware, bytes_per_item))

    return options


def _parts(group: Group, fits: list[Fit], batch: int) -> tuple[tuple[str, float, int], ...]:
    """Shares of a cycle's time on one device, for the timeline."""
    seconds = [
        one.option(batch, 1).seconds * call.times
        for one, call in zip(fits, group.calls, strict=True)
    ]
    return tuple(
        (call.name, part / sum(seconds), call.times)
        for call, part in zip(group.calls, seconds, strict=True)
    )
