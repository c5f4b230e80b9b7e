"""The planner: against all plans, two ways of listing them, and against answers by hand."""

import itertools
import math

import numpy as np
import pytest

from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.choose import choose, find_plan
from loomax.agents.workflow.plan.config import PlanConfig
from loomax.agents.workflow.plan.exhaustive import least_seconds, mismatches
from loomax.agents.workflow.plan.front import LATENCY
from loomax.agents.workflow.plan.problem import Link, Option, Problem, Unit, table_options
from loomax.agents.workflow.plan.random_cases import random_cycle, random_problem
from loomax.agents.workflow.plan.ring import Ring, Station
from loomax.agents.workflow.plan.search import Search
from loomax.agents.workflow.plan.tree import Chunks, Run, Shared, Space, cost, runs


def test_no_plan_is_faster_in_random_cases():
    assert mismatches(16, seed=11) == []


def test_no_plan_of_a_cycle_is_faster():
    assert mismatches(200, seed=5, draw=random_cycle) == []


def test_random_cycles_are_of_every_kind():
    seen = set()
    for number in range(20):
        case = random_cycle(np.random.default_rng([5, number]))
        plan = find_plan(case.problem, case.config)
        for run in runs(plan) if plan is not None else ():
            stations = run.ring.stations if run.ring else ()
            seen |= {(bool(s.devices), run.ring.turns > 1) for s in stations}
    assert seen == {(False, False), (False, True), (True, False), (True, True)}


def trees(problem, config, group: frozenset, size: int):
    """Every plan tree, by the definition of plans: no merging, no memory of what was seen."""
    yield from outer(problem, config, group, size)
    for finer in config.sizes(problem.batch):
        if finer < size and size % finer == 0:
            for child in outer(problem, config, group, finer):
                yield Chunks(child, size // finer)


def outer(problem, config, group, size):
    units = [problem.units[x] for x in sorted(group)]
    choices = [problem.options(x, size) for x in sorted(group)]
    for taken in itertools.product(*choices):
        same = len({option.devices for option in taken}) == 1
        fused = "fused" in config.modes and all(unit.fusable for unit in units)
        if len(group) == 1 or (same and fused):
            yield Run(
                tuple(unit.name for unit in units),
                taken[0].devices,
                size,
                sum(option.seconds for option in taken) + problem.hardware.dispatch_s,
                sum(option.resident_bytes for option in taken),
                max(option.working_bytes for option in taken),
            )
    pool = problem.hardware
    for count in range(1, len(group)):
        for chosen in itertools.combinations(sorted(group), count):
            first, second = frozenset(chosen), group - frozenset(chosen)
            if any(x.source in second and x.target in first for x in problem.links):
                continue
            flows = [x for x in problem.links if x.source in first and x.target in second]
            size_of_all = sum(x.bytes_per_item for x in flows) * size
            lefts = list(trees(problem, config, first, size))
            for a, b in itertools.product(lefts, list(trees(problem, config, second, size))):
                if "shared" in config.modes:
                    residents = cost(a).resident_bytes + cost(b).resident_bytes
                    exchange = size_of_all / pool.local_bytes_per_s
                    yield Shared(a, b, False, exchange, 0.0)
                    yield Shared(a, b, True, exchange, 2 * residents / pool.host_bytes_per_s)
                if "space" in config.modes:
                    move = pool.link_latency_s + size_of_all / pool.link_bytes_per_s
                    yield Space(a, b, move if flows else 0.0, not flows)


def fits(plan, hardware) -> bool:
    def peaks(node):
        inner = {Chunks: ("child",), Run: ()}.get(type(node), ("first", "second"))
        return max([cost(node).peak_bytes, *(peaks(getattr(node, name)) for name in inner)])

    return cost(plan).devices <= hardware.devices and peaks(plan) <= hardware.memory_bytes


def test_no_plan_tree_is_faster():
    seen = 0
    for case in range(200):
        problem, config = random_problem(np.random.default_rng([3, case]), 3)
        # Rings and what does not split have tests of their own.
        rings = any(
            o.ring or u.parts for u in problem.units for b in (8, 4, 2) for o in u.options(b, 8)
        )
        pool = problem.hardware.devices
        if rings or not all(unit.splits for unit in problem.units) or pool > 3:
            continue
        config = PlanConfig(config.modes, config.microbatches[:2])
        every = frozenset(range(len(problem.units)))
        times = [
            cost(plan).latency_s
            for plan in trees(problem, config, every, problem.batch)
            if fits(plan, problem.hardware)
        ]
        plan = find_plan(problem, config)
        assert (plan is None) == (not times)
        if plan is not None:
            seen += 1
            assert fits(plan, problem.hardware)
            assert cost(plan).latency_s == pytest.approx(min(times), rel=1e-12)
    assert seen >= 10


def table(name, times, *, batches=(8,), resident=0, working=0, **rest) -> Unit:
    """A unit whose seconds are proportional to the batch; `times` are for 8 items, by devices."""
    options = {
        size: [Option(n, t * size / 8, resident, working) for n, t in times.items()]
        for size in batches
    }
    return Unit(name, table_options(options), **rest)


def pool(devices, memory=100, **rest) -> Hardware:
    return Hardware("test", devices, memory, 1e9, rest.pop("host", 1.0), **rest)


def test_the_last_unit_may_get_one_device():
    first = table("first", {1: 9.0, 2: 6.0, 3: 3.0}, resident=60)
    problem = Problem((first, table("second", {1: 1.0}, resident=60)), (), 8, pool(4))
    plan = find_plan(problem, PlanConfig(("shared", "space"), (1,)))
    assert isinstance(plan, Space) and plan.parallel
    assert sorted(run.devices for run in runs(plan)) == [1, 3]
    assert cost(plan).latency_s == 3.0


def test_an_unequal_split_balances_a_pipeline():
    # Alone 8/n; on 6 | 2 devices both take the same for every microbatch.
    slow = table("slow", {n: 24 / n for n in range(1, 9)}, batches=(8, 1), fusable=False)
    fast = table("fast", {n: 8 / n for n in range(1, 3)}, batches=(8, 1))
    problem = Problem((slow, fast), (Link(0, 1),), 8, pool(8))
    config = PlanConfig(("space",), (1, 8))
    plan = find_plan(problem, config)
    assert [run.devices for run in runs(plan)] == [6, 2]
    assert cost(plan).latency_s == pytest.approx(0.5 * 2 + 7 * 0.5)
    believed = Search(problem, config).front(problem.everything, 8).values[:, LATENCY]
    assert min(believed) == pytest.approx(4.5)


def test_a_pipeline_is_scored_by_its_whole_time():
    # Both scale perfectly, so that a pipeline only adds its warm-up.
    units = tuple(table(name, {1: 8.0, 2: 4.0}, batches=(8, 4)) for name in "ab")
    problem = Problem(units, (Link(0, 1),), 8, pool(2))
    shared = find_plan(problem, PlanConfig(("shared",), (1, 2)))
    piped = find_plan(problem, PlanConfig(("space",), (1, 2)))
    assert cost(shared).latency_s == 8.0
    assert cost(piped).latency_s == 4.0 + 4.0 + 4.0
    assert isinstance(find_plan(problem, PlanConfig(("shared", "space"), (1, 2))), Shared)


@pytest.mark.parametrize(
    ("memory", "host", "kind", "seconds"),
    [
        (100, 1000.0, Run, 4.0),  # 40 + 40 + 20 fit: fused
        (99, 1000.0, Shared, 4.16),  # one byte short: 2 * 80 bytes move
        (99, 10.0, Space, 6.0),  # swaps cost 16 s: rather one device each
    ],
)
def test_memory_decides(memory, host, kind, seconds):
    units = tuple(
        table(name, {1: 3.0, 2: 2.0}, resident=40, working=20) for name in ("act", "train")
    )
    problem = Problem(units, (Link(0, 1),), 8, pool(2, memory, host=host))
    plan = find_plan(problem)
    assert isinstance(plan, kind)
    assert cost(plan).latency_s == pytest.approx(seconds)
    assert cost(plan).peak_bytes <= memory


def test_fused_saves_dispatch_and_hand_over():
    units = tuple(table(name, {1: 1.0}) for name in "abc")
    links = Link(0, 1, 10.0), Link(1, 2, 10.0)
    hardware = pool(1, dispatch_s=0.5, local_bytes_per_s=80.0)
    problem = Problem(units, links, 8, hardware)
    assert cost(find_plan(problem)).latency_s == 3.5
    assert cost(find_plan(problem, PlanConfig(("shared",)))).latency_s == 3 * 1.5 + 2 * 1.0


def test_microbatches_fit_where_the_batch_does_not():
    option = {8: [Option(1, 8.0, 10, 80)], 4: [Option(1, 5.0, 10, 40)]}
    problem = Problem((Unit("train", table_options(option)),), (), 8, pool(1, 50))
    plan = find_plan(problem)
    assert isinstance(plan, Chunks) and plan.count == 2
    assert cost(plan).latency_s == 10.0
    whole = Unit("train", table_options(option), splits=False)
    assert find_plan(Problem((whole,), (), 8, pool(1, 50))) is None


def test_a_ring_counts_as_disjoint():
    ring = Ring((Station("act", 1, 1.0), Station("simulate", 1, 1.0)), 2, 3)
    options = {8: [Option(2, 10.0), Option(2, ring.seconds, ring=ring)]}
    parts = (("act", 0.5, 3), ("simulate", 0.5, 3))
    unit = Unit("act+simulate", table_options(options), False, True, parts)
    problem = Problem((unit,), (), 8, pool(2))
    choice = choose(problem)
    assert choice.plan.ring == ring and choice.seconds == 7.0
    assert cost(choice.rivals["time-shared"]).latency_s == 10.0
    assert choice.rivals["disaggregated"].ring == ring
    assert choice.rivals["fused"] is None


def divided(name, fixed, share, resident, working) -> Unit:
    def options(batch, most):
        counts = [n for n in range(1, min(batch, most) + 1) if batch % n == 0]
        return tuple(
            Option(n, fixed + share * batch / n, resident, working * (batch // n)) for n in counts
        )

    return Unit(name, options)


def test_thousands_of_devices():
    units = tuple(divided(f"s{i}", 0.01 * (i + 1), 0.02 * (5 - i), 6, 1 + i // 4) for i in range(5))
    links = tuple(Link(i, i + 1, 1.0) for i in range(4))
    problem = Problem(units, links, 4096, Hardware("test", 4096, 16, 1e6, 10.0))
    best = cost(find_plan(problem))
    assert best.devices <= 4096 and best.peak_bytes <= 16
    shared = cost(find_plan(problem, PlanConfig(("shared",), (1,))))
    assert best.latency_s < shared.latency_s
    # More devices never hurt.
    half = Problem(units, links, 4096, Hardware("test", 2048, 16, 1e6, 10.0))
    assert best.latency_s <= cost(find_plan(half)).latency_s


def test_without_a_way_to_share_time_nothing_may_fit():
    units = tuple(table(name, {1: 1.0}, resident=60) for name in "ab")
    problem = Problem(units, (), 8, pool(1))
    assert least_seconds(problem, PlanConfig(("space",))) == math.inf
    with pytest.raises(ValueError, match="modes space on 1 devices: allow 'shared'"):
        choose(problem, PlanConfig(("space",)))
