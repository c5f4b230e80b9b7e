"""Plans as trees, and their cost in closed form. Imports no JAX.

A plan answers a stream of equal batches. `latency_s` is the time of the first, `period_s` what
each further one adds, so k batches take `latency_s + (k - 1) * period_s`. For constant times this
is exact: a chain of stations with constant times is limited by its slowest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

from loomax.agents.workflow.plan.ring import Ring


@dataclass(frozen=True)
class Run:
    """One compiled program: a unit, or several fused into one.

    Args:
        units: in order of execution.
        devices: that share each batch.
        batch: items of one call.
        seconds: of one call, with dispatch.
        resident_bytes, working_bytes: per device.
        ring: a cycle whose stages have devices of their own, hence programs of their own.
    """

    units: tuple[str, ...]
    devices: int
    batch: int
    seconds: float
    resident_bytes: int
    working_bytes: int
    ring: Ring | None = None


@dataclass(frozen=True)
class Shared:
    """Time-sharing: all of a batch passes `first`, then `second`, on the same devices.

    Args:
        swap: whether the residents of the one that waits are in host memory.
        exchange_s: to hand a batch over.
        swap_s: for all swaps of a pass: each side goes in and out once.
    """

    first: "Plan"
    second: "Plan"
    swap: bool
    exchange_s: float
    swap_s: float


@dataclass(frozen=True)
class Space:
    """Space-sharing on disjoint devices: `second` gets a batch when `first` has finished it.

    Args:
        transfer_s: to move a batch from the one to the other.
        parallel: no data flow between the two, so that both start at once.
    """

    first: "Plan"
    second: "Plan"
    transfer_s: float
    parallel: bool


@dataclass(frozen=True)
class Chunks:
    """A batch goes through `child` in `count` microbatches, one behind the other."""

    child: "Plan"
    count: int


Plan = Union[Run, Shared, Space, Chunks]  # noqa: UP007  (a forward reference)


@dataclass(frozen=True)
class Cost:
    """Of a plan, for a stream of batches.

    Args:
        devices: that it occupies.
        latency_s: of the first batch.
        period_s: from one batch to the next.
        resident_bytes: on the fullest device, between batches.
        peak_bytes: on the fullest device.
    """

    devices: int
    latency_s: float
    period_s: float
    resident_bytes: float
    peak_bytes: float

    def seconds(self, batches: int = 1) -> float:
        """Time until the last of `batches` is done."""
        return self.latency_s + (batches - 1) * self.period_s


def cost(plan: Plan) -> Cost:
    """The closed form."""
    if isinstance(plan, Run):
        peak = plan.resident_bytes + plan.working_bytes
        return Cost(plan.devices, plan.seconds, plan.seconds, plan.resident_bytes, peak)
    if isinstance(plan, Chunks):
        one = cost(plan.child)
        latency, period = one.seconds(plan.count), plan.count * one.period_s
        return Cost(one.devices, latency, period, one.resident_bytes, one.peak_bytes)
    first, second = cost(plan.first), cost(plan.second)
    if isinstance(plan, Shared):
        return _shared(plan, first, second)
    return _space(plan, first, second)


def _shared(plan: Shared, first: Cost, second: Cost) -> Cost:
    total = first.latency_s + second.latency_s + plan.exchange_s + plan.swap_s
    if plan.swap:
        resident = max(first.resident_bytes, second.resident_bytes)
        peak = max(first.peak_bytes, second.peak_bytes)
    else:
        resident = first.resident_bytes + second.resident_bytes
        peak = max(
            first.peak_bytes + second.resident_bytes, second.peak_bytes + first.resident_bytes
        )
    return Cost(max(first.devices, second.devices), total, total, resident, peak)


def _space(plan: Space, first: Cost, second: Cost) -> Cost:
    if plan.parallel:
        latency = max(first.latency_s, second.latency_s)
    else:
        latency = first.latency_s + second.latency_s + plan.transfer_s
    return Cost(
        first.devices + second.devices,
        latency,
        max(first.period_s, second.period_s, plan.transfer_s),
        max(first.resident_bytes, second.resident_bytes),
        max(first.peak_bytes, second.peak_bytes),
    )


def swap_seconds(first: Cost, second: Cost, host_bytes_per_s: float) -> float:
    """Of one pass over two sides that take turns in memory: each goes in and out once."""
    return 2 * (first.resident_bytes + second.resident_bytes) / host_bytes_per_s


def walk(plan: Plan) -> Iterator[Plan]:
    """The plan and everything in it, in order of execution."""
    yield plan
    if isinstance(plan, Chunks):
        yield from walk(plan.child)
    elif isinstance(plan, Shared | Space):
        yield from walk(plan.first)
        yield from walk(plan.second)


def runs(plan: Plan) -> list[Run]:
    """The programs of a plan."""
    return [node for node in walk(plan) if isinstance(node, Run)]
