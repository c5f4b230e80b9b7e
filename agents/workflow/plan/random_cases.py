"""Small planning problems at random, and all the ways to run their units. Imports no JAX."""

import itertools
from dataclasses import dataclass

import numpy as np

from loomax.agents.workflow.build import problem_of
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.config import MODES, PlanConfig
from loomax.agents.workflow.plan.every_way import every_way
from loomax.agents.workflow.plan.problem import Link, Option, Problem, Unit, table_options
from loomax.agents.workflow.plan.ring import Ring, Station
from loomax.agents.workflow.profile import Measurement, Profile, StageProfile
from loomax.agents.workflow.workflow import Call, Edge, Workflow

BATCH = 8
SIZES = (8, 4, 2, 1)


@dataclass(frozen=True)
class Case:
    """A problem as it is planned.

    Args:
        every: the same with all ways to run its units, also those that others beat.
    """

    problem: Problem
    every: Problem
    config: PlanConfig


def random_case(rng: np.random.Generator) -> Case:
    """Units with tables of made-up costs, or a workflow with a cycle."""
    if rng.random() < 0.25:
        return random_cycle(rng)
    problem, config = random_problem(rng)
    return Case(problem, problem, config)


def random_problem(rng: np.random.Generator, most_units: int = 5) -> tuple[Problem, PlanConfig]:
    """A small problem with any graph, arbitrary times, and memory that often binds.

    Times need not fall with devices, and larger problems have fewer ways to run a stage, so that
    all plans can be listed.
    """
    count = int(rng.integers(1, most_units + 1))
    devices = int(rng.integers(1, 9))
    # Five units with all the choices of one have too many plans to list.
    counts = ((1, 2, 4), (1, 4), (1, 2), (1,))[int(rng.integers(2 * (count > 3), 4))]
    ways = (devices, devices, 4, 2, 3 - len(counts))[count - 1]
    units = []
    for index in range(count):
        chosen = [int(n) for n in rng.permutation(devices)[:ways] + 1]
        scales = rng.random() < 0.6
        table = {
            BATCH // k: [_random_option(rng, n, k if scales else 1, False) for n in chosen]
            + [_random_option(rng, n, 1, True) for n in chosen[: int(rng.random() < 0.2)]]
            for k in counts
        }
        fusable, splits = rng.random(2) < (0.7, 0.8)
        parts = (("a", 0.5, 2), ("b", 0.5, 2)) if rng.random() < 0.2 else ()
        way = table_options(table), bool(fusable), bool(splits), parts
        units.append(Unit(f"s{index}", *way))
    density = rng.random()
    links = tuple(
        Link(a, b, int(rng.integers(0, 3)))
        for b in range(count)
        for a in range(b)
        if rng.random() < density
    )
    hardware = _random_hardware(rng, devices)
    return Problem(tuple(units), links, BATCH, hardware), PlanConfig(_random_modes(rng), counts)


def _random_option(rng: np.random.Generator, devices: int, share: int, alone: bool) -> Option:
    whole, resident, working = (int(x) for x in rng.integers([1, 0, 0], [13, 7, 5]))
    seconds = whole / share
    # A ring of one station; it cannot be fused.
    turns = int(rng.integers(1, 3))
    ring = Ring((Station("ring", devices, seconds / turns),), turns, 1) if alone else None
    return Option(devices, seconds, resident, working, ring)


def _random_hardware(rng: np.random.Generator, devices: int) -> Hardware:
    memory = int(rng.integers(6, 26))
    link, host, local = (float(rng.choice([1, 4, 16, 64])) for _ in range(3))
    # Free transfers and calls in most problems, so that pipelines pay.
    latency, dispatch = (float(rng.random() < 0.25) for _ in range(2))
    return Hardware("test", devices, memory, link, host, local, latency, dispatch)


def _random_modes(rng: np.random.Generator) -> tuple[str, ...]:
    return tuple(mode for mode in MODES if rng.random() < 0.85) or MODES


def random_cycle(rng: np.random.Generator) -> Case:
    """A workflow with a cycle, some of whose stages work in the background, and a chain after it.

    The problem is what `build` makes of it; all ways to run it are listed from the definitions.
    """
    rounds, after = int(rng.integers(1, 4)), int(rng.integers(0, 3))
    calls = [_random_call(rng, f"c{i}", rounds) for i in range(int(rng.integers(2, 4)))]
    calls += [_random_call(rng, f"d{i}", 1) for i in range(after)]
    cycle = calls[: len(calls) - after]
    flows = [(a, b) for a, b in itertools.pairwise(calls)] + [(cycle[-1], cycle[0])]
    edges = tuple(Edge(a.name, b.name, float(rng.integers(0, 3)), b is calls[0]) for a, b in flows)
    hardware = _random_hardware(rng, int(rng.integers(1, (9, 6, 4)[after])))
    table = {call.name: _random_costs(rng) for call in calls}
    profile = Profile("test", {name: StageProfile(tuple(rows)) for name, rows in table.items()})
    workflow = Workflow(tuple(calls), edges, BATCH)
    counts = ((1, 2, 4, 8), (1, 2, 4), (1, 4), (1, 2), (1,))[int(rng.integers(2 * after, 5))]
    return Case(
        problem_of(workflow, profile, hardware),
        every_way(workflow, len(cycle), table, hardware),
        PlanConfig(_random_modes(rng), counts),
    )


def _random_call(rng: np.random.Generator, name: str, times: int) -> Call:
    background = rng.random() < 0.4
    fusable = not background and bool(rng.random() < 0.7)
    multiple = int(rng.choice([1, 2, 4])) if background else 1
    options = {"fusable": fusable, "background": bool(background), "multiple": multiple}
    return Call(name, name, (), None, times=times, **options)


def _random_costs(rng: np.random.Generator) -> list[Measurement]:
    """At all sizes on all device counts."""
    scales = rng.random() < 0.6
    found = []
    for size in SIZES:
        for n in (n for n in SIZES if n <= size):
            whole, resident, working = (int(x) for x in rng.integers([1, 0, 0], [13, 7, 5]))
            seconds = whole * size / BATCH if scales else float(whole)
            found.append(Measurement(size, n, seconds, resident, working))
    return found
