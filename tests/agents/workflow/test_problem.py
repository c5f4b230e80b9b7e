"""What cannot be planned, said clearly."""

import pytest

from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.choose import choose
from loomax.agents.workflow.plan.config import PlanConfig
from loomax.agents.workflow.plan.problem import Link, Option, Problem, Unit, table_options

POOL = Hardware("test", 4, 100, 1.0, 1.0)
UNIT = Unit("a", table_options({8: [Option(1, 1.0)]}))
OTHER = Unit("b", table_options({8: [Option(1, 1.0)]}))


@pytest.mark.parametrize(
    ("units", "links", "batch", "message"),
    [
        ((), (), 8, "no stage"),
        ((UNIT, UNIT), (), 8, "two units are called 'a'"),
        ((UNIT,), (Link(0, 1),), 8, "leads outside of the 1 units"),
        ((UNIT, OTHER), (Link(0, 1), Link(1, 0)), 8, "units form a cycle .*collapse"),
        ((UNIT,), (), 0, "the batch is 0"),
    ],
)
def test_broken_problems(units, links, batch, message):
    with pytest.raises(ValueError, match=message):
        Problem(units, links, batch, POOL)


@pytest.mark.parametrize(
    ("field", "value"),
    [("devices", 0), ("memory_bytes", 0), ("link_bytes_per_s", 0.0), ("dispatch_s", -1.0)],
)
def test_broken_hardware(field, value):
    fields = dict(
        kind="test", devices=1, memory_bytes=1, link_bytes_per_s=1.0, host_bytes_per_s=1.0
    )
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        Hardware(**(fields | {field: value}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(modes=("fuse",)), "unknown mode 'fuse'"),
        (dict(modes=()), "no mode"),
        (dict(microbatches=(1, 0)), "microbatches has 0"),
    ],
)
def test_broken_settings(config, message):
    with pytest.raises(ValueError, match=message):
        PlanConfig(**config)


def big(batch, most):
    """100 bytes shared by the devices, and 30 for each item that a device has."""
    counts = [n for n in (1, 2, 4, 8, 16, 32) if n <= min(batch, most)]
    return tuple(Option(n, 1.0, -(-100 // n), 30 * batch // n) for n in counts)


def test_a_unit_that_fits_nowhere():
    hardware = Hardware("test", 4, 50, 1.0, 1.0)
    problem = Problem((UNIT, Unit("train", big)), (), 8, hardware)
    with pytest.raises(ValueError) as caught:
        choose(problem, PlanConfig(microbatches=(1,)))
    message = str(caught.value)
    # On 4 devices 25 bytes are resident, and 2 items a device need 60; 1 item 30, still too much.
    assert "stage 'train' fits nowhere: at best, 8 items on 4 devices" in message
    assert "needs 85 bytes a device (25 resident, 60 working), 35 more than the 50" in message
    assert message.endswith("there are: give it 8 devices; or use devices with 85 bytes")


def test_microbatches_are_the_first_thing_to_try():
    hardware = Hardware("test", 4, 60, 1.0, 1.0)
    problem = Problem((Unit("train", big),), (), 32, hardware)
    with pytest.raises(ValueError, match="there are: allow 8 microbatches; or give it 16 dev"):
        choose(problem, PlanConfig(microbatches=(1, 2)))
    assert choose(problem, PlanConfig(microbatches=(1, 8))).cost.peak_bytes == 55


def test_a_unit_that_cannot_run():
    problem = Problem((Unit("x", table_options({})),), (), 8, POOL)
    with pytest.raises(ValueError, match="'x' cannot run on 4 devices with batches of 8, 4, 2, 1"):
        choose(problem)


def test_cuts_of_a_diamond():
    units = tuple(Unit(name, table_options({})) for name in "abcd")
    links = Link(0, 1, 1.0), Link(0, 2, 2.0), Link(1, 3, 4.0), Link(2, 3, 8.0)
    problem = Problem(units, links, 8, POOL)
    assert {first for first, _ in problem.cuts(0b1111)} == {0b0001, 0b0011, 0b0101, 0b0111}
    # b and c are not linked: one order is enough.
    assert list(problem.cuts(0b0110)) == [(0b0010, 0b0100)]
    assert problem.crossing(0b0011, 0b1100) == 6.0
    assert problem.transfer_s(0b0011, 0b1100, 2) == 12.0
    assert problem.transfer_s(0b0010, 0b0100, 2) == 0.0
