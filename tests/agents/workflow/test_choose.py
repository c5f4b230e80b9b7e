"""Plans with closed forms: what crosses links, what a family may cut, and what a unit may be."""

from dataclasses import replace

import pytest

from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.choose import choose, find_plan
from loomax.agents.workflow.plan.config import PlanConfig
from loomax.agents.workflow.plan.exhaustive import mismatches
from loomax.agents.workflow.plan.fits import check_fits, usable
from loomax.agents.workflow.plan.problem import Link, Option, Problem, Unit, table_options
from loomax.agents.workflow.plan.random_cases import random_case
from loomax.agents.workflow.plan.ring import Ring, Station
from loomax.agents.workflow.plan.tree import Chunks, Space, cost


def unit(name: str, seconds: float, *, sizes=(8,), devices=1, **rest) -> Unit:
    """Seconds of 8 items; fewer take in proportion."""
    table = {size: [Option(devices, seconds * size / 8)] for size in sizes}
    return Unit(name, table_options(table), **rest)


def pool(devices: int, **rest) -> Hardware:
    return Hardware("test", devices, 100, rest.pop("link", 1e9), 1.0, **rest)


def test_a_plan_pays_for_what_crosses_to_other_devices():
    links = (Link(0, 1, 40.0),)
    hardware = pool(2, link=64.0, link_latency_s=0.25)
    problem = Problem((unit("a", 1.0), unit("b", 2.0)), links, 8, hardware)
    plan = find_plan(problem, PlanConfig(("space",), (1,)))
    # 8 items of 40 bytes at 64 bytes a second.
    assert isinstance(plan, Space) and plan.transfer_s == 0.25 + 8 * 40 / 64
    assert cost(plan).latency_s == 1.0 + 2.0 + 5.25


def test_rivals_may_cut_batches_as_the_plan_may():
    units = tuple(unit(name, 8.0, sizes=(8, 4, 2)) for name in "ab")
    problem = Problem(units, (Link(0, 1),), 8, pool(2))
    # Two stages in a pipeline of k parts: (k + 1) / k of one stage; hybrid-2 has 2 parts at most.
    for counts, seconds, second in (((1,), 16.0, 12.0), ((1, 2), 12.0, 12.0), ((1, 4), 10.0, 12.0)):
        choice = choose(problem, PlanConfig(("shared", "space"), counts))
        assert choice.seconds == seconds
        assert cost(choice.rivals["disaggregated"]).latency_s == seconds
        assert cost(choice.rivals["hybrid"]).latency_s == seconds
        assert cost(choice.rivals["hybrid-2"]).latency_s == second
        assert cost(choice.rivals["fused"]).latency_s == 16.0


def ring_unit(fusable: bool) -> Unit:
    ring = Ring((Station("act", 1, 1.0), Station("simulate", 1, 1.0)), 2, 3)
    table = {8: [Option(2, 10.0), Option(2, ring.seconds, ring=ring)]}
    parts = (("act", 0.5, 3), ("simulate", 0.5, 3))
    return Unit("cycle", table_options(table), fusable, True, parts)


@pytest.mark.parametrize(
    ("modes", "fusable", "together", "apart"),
    [
        (("fused",), True, True, False),
        (("fused",), False, False, False),  # its stages cannot be one program
        (("shared",), False, True, False),
        (("space",), True, False, True),
        (("space",), False, False, True),
        (("fused", "space"), True, True, True),
    ],
)
def test_how_a_cycle_may_run(modes, fusable, together, apart):
    problem = Problem((ring_unit(fusable),), (), 8, pool(2))
    found = usable(problem, PlanConfig(modes, (1, 2)), 0, 8)
    assert [option.ring is not None for option in found] == [False] * together + [True] * apart


def test_a_ring_needs_its_number_of_parts():
    problem = Problem((ring_unit(False),), (), 8, pool(2))
    with pytest.raises(ValueError, match="'cycle' cannot run on 2 devices .* modes space"):
        check_fits(problem, PlanConfig(("space",), (1, 4)))


def test_a_stage_without_cycle_runs_in_any_mode():
    problem = Problem((unit("a", 1.0, fusable=False),), (), 8, pool(1))
    for mode in ("fused", "shared", "space"):
        assert len(usable(problem, PlanConfig((mode,)), 0, 8)) == 1


def test_larger_needs_are_told_with_each_single_change():
    def options(batch, most):
        return tuple(Option(n, 1.0, 30, 20 * batch // n) for n in (1, 2, 4, 8) if n <= most)

    problem = Problem((Unit("train", options),), (), 8, Hardware("test", 1, 75, 1.0, 1.0))
    with pytest.raises(ValueError) as caught:
        check_fits(problem, PlanConfig(microbatches=(1,)))
    # 30 + 160 bytes on one device; 30 + 40 of four microbatches or of four devices fit into 75.
    text = str(caught.value)
    assert (
        "8 items on 1 devices, it needs 190 bytes a device (30 resident, 160 working), 115" in text
    )
    assert "allow 4 microbatches; or give it 4 devices; or use devices with 190 bytes" in text


def test_a_planner_that_misses_a_plan_is_found_out():
    def slower(rng):
        """The plans that are compared with are those of a problem with twice the seconds."""
        case = random_case(rng)

        def doubled(unit):
            def options(batch, most):
                found = unit.options(batch, most)
                return tuple(
                    replace(o, seconds=2 * o.seconds, ring=None) for o in found if o.ring is None
                )

            return replace(unit, options=options)

        units = tuple(doubled(unit) for unit in case.every.units)
        return replace(case, every=replace(case.every, units=units))

    wrong = mismatches(6, seed=11, draw=slower)
    assert len(wrong) >= 3 and wrong == sorted(set(wrong))


def test_parts_of_a_batch_are_chunks():
    problem = Problem((unit("a", 8.0, sizes=(4,)),), (), 8, pool(1))
    plan = find_plan(problem, PlanConfig(microbatches=(2,)))
    assert isinstance(plan, Chunks) and plan.count == 2 and cost(plan).latency_s == 8.0
