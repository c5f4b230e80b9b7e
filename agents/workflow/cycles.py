"""Ways to run the stages of a cycle. Imports no JAX."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from loomax.agents.workflow.fit import Fit
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.front import pareto
from loomax.agents.workflow.plan.problem import Option, held
from loomax.agents.workflow.plan.ring import Ring, Station
from loomax.agents.workflow.workflow import Call

# Into how many parts a batch may be cut to go round a cycle.
TURNS = (1, 2, 4, 8)


def divisors(number: int, most: int) -> list[int]:
    """The divisors of a number up to a bound: JAX shards a batch over those."""
    return [n for n in range(1, min(number, most) + 1) if number % n == 0]


def together(calls: tuple[Call, ...], fits: list[Fit], batch: int, n: int, call_s: float) -> Option:
    """All calls one after the other on the same devices; `call_s` is added to each."""
    costs = [one.option(batch, n) for one in fits]
    return Option(
        n,
        sum(call.times * (cost.seconds + call_s) for call, cost in zip(calls, costs, strict=True)),
        held(
            [(c.resident_bytes, call.resident_shares) for c, call in zip(costs, calls, strict=True)]
        ),
        max(cost.working_bytes for cost in costs),
    )


def rings(
    calls: tuple[Call, ...],
    fits: list[Fit],
    batch: int,
    most: int,
    hardware: Hardware,
    bytes_per_item: Callable[[int], float],
) -> list[Option]:
    """The cycle with each stage on devices of its own, those ways that no other one beats.

    A stage in the background has none: its seconds hold the way of its data to the host and back.

    Args:
        bytes_per_item: from the stage of this index to the next one, over all rounds.
    """
    rounds, multiple = calls[0].times, math.lcm(*(call.multiple for call in calls))
    if len(calls) < 2 or any(call.times != rounds or call.batch_axis is None for call in calls):
        return []
    if all(call.background for call in calls):
        return []
    kept: list[Option] = []
    for turns in TURNS:
        part, found = batch // turns, []
        if batch % turns or (turns > 1 and part % multiple):
            continue
        costs = [
            [one.option(part, n) for n in ([0] if call.background else divisors(part, most))]
            for call, one in zip(calls, fits, strict=True)
        ]
        moves = _moves(calls, part, hardware, bytes_per_item)
        for chosen in itertools.product(*costs):
            if sum(option.devices for option in chosen) <= most:
                found.append(_ring(calls, chosen, moves, turns, rounds, hardware.dispatch_s))
        # Only among as many turns: settings may allow these and forbid others.
        rows = [(o.devices, o.seconds, o.resident_bytes, o.working_bytes) for o in found]
        kept += [found[i] for i in pareto(np.array(rows, float).reshape(-1, 4))]
    return kept


def _moves(
    calls: tuple[Call, ...], part: int, hardware: Hardware, bytes_per_item: Callable[[int], float]
) -> list[float]:
    """Seconds of each hand-over between groups of devices, once for one part of the batch."""
    found = []
    for i, call in enumerate(calls):
        size = bytes_per_item(i) * part / call.times
        across = hardware.link_latency_s + size / hardware.link_bytes_per_s
        outside = call.background or calls[(i + 1) % len(calls)].background
        found.append(0.0 if outside else across)
    return found


def _ring(
    calls: tuple[Call, ...],
    chosen: tuple[Option, ...],
    moves: list[float],
    turns: int,
    rounds: int,
    call_s: float,
) -> Option:
    stations = tuple(
        Station(call.name, option.devices, option.seconds + call_s, move)
        for call, option, move in zip(calls, chosen, moves, strict=True)
    )
    ring = Ring(stations, turns, rounds)
    resident = max(option.resident_bytes for option in chosen)
    peak = max(option.resident_bytes + option.working_bytes for option in chosen)
    return Option(ring.devices, ring.seconds, resident, peak - resident, ring)
