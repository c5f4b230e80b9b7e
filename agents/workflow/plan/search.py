"""The exact search: fronts of all sub-plans over memoised s-t cuts.

For every group of units that cuts can reach, and every batch size, the search keeps the sub-plans
whose (devices, latency, period, resident, peak) no other sub-plan beats. Every rule that combines
sub-plans is non-decreasing in these five, and memory and device limits are upper bounds, so
replacing a sub-plan by one that beats it never makes a plan worse or impossible: the best plan
survives. That also prunes device counts exactly: of all counts only those stay at which something
improves, since the others may leave devices idle.

A sub-plan of batch b whose stream of B/b batches already takes longer than a known plan is cut
too: latency and period only grow on the way up.

Source of the recursion: RLinf, arXiv 2509.15965, section on the scheduler (times only, one
granularity, no memory).
"""

import math
from dataclasses import replace

import numpy as np

from loomax.agents.workflow.plan import combine
from loomax.agents.workflow.plan.config import PlanConfig
from loomax.agents.workflow.plan.fits import usable
from loomax.agents.workflow.plan.front import DEVICES, LATENCY, PEAK, PERIOD, Front, collect
from loomax.agents.workflow.plan.problem import Option, Problem, held
from loomax.agents.workflow.plan.tree import Chunks, Plan, Run, Shared, Space, cost, swap_seconds

RUN, FUSED, KEEP, SWAP, SPACE = range(5)


class Search:
    """Fronts of one problem, filled in as they are asked for.

    Args:
        bound_s: seconds of a plan that is already known; only better or equal ones are looked for.
    """

    def __init__(self, problem: Problem, config: PlanConfig, bound_s: float = math.inf):
        self.problem, self.config = problem, config
        self.bound_s = bound_s * (1 + 1e-9)
        self.sizes = config.sizes(problem.batch)
        self._options: dict[tuple[int, int], list[Option]] = {}
        self.tight = self._is_tight()
        self._bases: dict[tuple[int, int], Front] = {}
        self._fronts: dict[tuple[int, int], Front] = {}

    def best(self) -> Plan | None:
        """The fastest plan of one iteration; of equally fast ones the one with fewest devices."""
        front = self.front(self.problem.everything, self.problem.batch)
        if not len(front):
            return None
        row = int(np.lexsort((front.values[:, DEVICES], front.values[:, LATENCY]))[0])
        return self._plan(self.problem.everything, self.problem.batch, row)

    def front(self, group: int, batch: int) -> Front:
        """All that a group can do with batches of this size, in microbatches too."""
        key = group, batch
        if key not in self._fronts:
            parts = []
            for size in self.sizes:
                if batch % size == 0:
                    base, count = self._base(group, size), batch // size
                    values = combine.chunks(base.values, count) if count > 1 else base.values
                    origin = np.zeros((len(base), 4), np.int64)
                    origin[:, 0], origin[:, 1] = count, np.arange(len(base))
                    parts.append(self._kept(values, origin, batch))
            self._fronts[key] = collect(parts)
        return self._fronts[key]

    def _base(self, group: int, batch: int) -> Front:
        """The same without microbatches at the outermost level."""
        key = group, batch
        if key not in self._bases:
            parts = [self._programs(group, batch)]
            for index, (first, second) in enumerate(self.problem.cuts(group)):
                one, two = self.front(first, batch), self.front(second, batch)
                if "shared" in self.config.modes:
                    parts += self._shared(index, first, second, one, two, batch)
                if "space" in self.config.modes:
                    parts += self._space(index, first, second, one, two, batch)
            self._bases[key] = collect(parts)
        return self._bases[key]

    def _programs(self, group: int, batch: int) -> Front:
        """The group as one compiled program."""
        options = self._fused(group, batch)
        values = np.array([_row(option) for option in options]).reshape(-1, 5)
        origin = np.zeros((len(options), 4), np.int64)
        origin[:, 0] = RUN if group.bit_count() == 1 else FUSED
        origin[:, 1] = np.arange(len(options))
        return self._kept(values, origin, batch)

    def _shared(
        self, cut: int, first: int, second: int, one: Front, two: Front, batch: int
    ) -> list[Front]:
        one, rows = combine.without_period(one)
        two, columns = combine.without_period(two)
        exchange = self.problem.exchange_s(first, second, batch)
        host, parts = self.problem.hardware.host_bytes_per_s, []
        for i, j in combine.pairs(one, two):
            left, right = one.values[i], two.values[j]
            at = rows[i], columns[j]
            parts.append(
                self._kept(combine.keep(left, right, exchange), _at(KEEP, cut, *at), batch)
            )
            if self.tight:
                values = combine.swap(left, right, exchange, host)
                parts.append(self._kept(values, _at(SWAP, cut, *at), batch))
        return parts

    def _space(
        self, cut: int, first: int, second: int, one: Front, two: Front, batch: int
    ) -> list[Front]:
        transfer = self.problem.transfer_s(first, second, batch)
        parallel = self.problem.crossing(first, second) is None
        parts = []
        for i, j in combine.pairs(one, two):
            values = combine.space(one.values[i], two.values[j], transfer, parallel)
            parts.append(self._kept(values, _at(SPACE, cut, i, j), batch))
        return parts

    def _kept(self, values: np.ndarray, origin: np.ndarray, batch: int) -> Front:
        """Rows within the pool, the memory and the bound."""
        hardware = self.problem.hardware
        values = values.copy()
        if batch == self.problem.batch:
            values[:, PERIOD] = 0.0  # Nothing follows the whole batch.
        if not self.tight:
            values[:, PEAK - 1 :] = 0.0
        further = self.problem.batch // batch - 1
        fits = values[:, DEVICES] <= hardware.devices
        fits &= values[:, PEAK] <= hardware.memory_bytes
        fits &= values[:, LATENCY] + further * values[:, PERIOD] <= self.bound_s
        return collect([Front(values[fits], origin[fits])])

    def _plan(self, group: int, batch: int, row: int) -> Plan:
        count, base = (int(x) for x in self.front(group, batch).origin[row, :2])
        child = self._plan_of_base(group, batch // count, base)
        return Chunks(child, count) if count > 1 else child

    def _plan_of_base(self, group: int, batch: int, row: int) -> Plan:
        rule, cut, i, j = (int(x) for x in self._base(group, batch).origin[row])
        if rule in (RUN, FUSED):
            option = self._fused(group, batch)[cut]
            return run(self.problem, group, batch, option)
        first, second = list(self.problem.cuts(group))[cut]
        one, two = self._plan(first, batch, i), self._plan(second, batch, j)
        if rule == SPACE:
            transfer = self.problem.transfer_s(first, second, batch)
            return Space(one, two, transfer, self.problem.crossing(first, second) is None)
        exchange = self.problem.exchange_s(first, second, batch)
        host = self.problem.hardware.host_bytes_per_s
        moved = swap_seconds(cost(one), cost(two), host) if rule == SWAP else 0.0
        return Shared(one, two, rule == SWAP, exchange, moved)

    def _fused(self, group: int, batch: int) -> list[Option]:
        """The ways to run a group as one program, with the dispatch of a call.

        Fused stages share their devices, hold the residents of all, and reuse working memory.
        """
        members, call_s = self.problem.members(group), self.problem.hardware.dispatch_s
        if len(members) == 1:
            options = self.options(members[0], batch)
            return [replace(option, seconds=option.seconds + call_s) for option in options]
        fusable = all(self.problem.units[index].fusable for index in members)
        if not fusable or "fused" not in self.config.modes:
            return []
        by_devices = [
            {option.devices: option for option in self.options(index, batch) if not option.ring}
            for index in members
        ]
        found, units = [], [self.problem.units[index] for index in members]
        for devices in sorted(set.intersection(*map(set, by_devices))):
            stages = [options[devices] for options in by_devices]
            found.append(
                Option(
                    devices,
                    sum(stage.seconds for stage in stages) + call_s,
                    held(
                        [
                            (s.resident_bytes, u.residents)
                            for s, u in zip(stages, units, strict=True)
                        ]
                    ),
                    max(stage.working_bytes for stage in stages),
                )
            )
        return found

    def options(self, index: int, batch: int) -> list[Option]:
        """The ways to run a batch of one unit."""
        key = index, batch
        if key not in self._options:
            self._options[key] = usable(self.problem, self.config, index, batch)
        return self._options[key]

    def _is_tight(self) -> bool:
        """Whether memory can decide anything: not all fits on one device at its largest."""
        resident, working = 0, 0
        for index in range(len(self.problem.units)):
            options = [option for size in self.sizes for option in self.options(index, size)]
            resident += max((option.resident_bytes for option in options), default=0)
            working = max([working, *(option.working_bytes for option in options)])
        return resident + working > self.problem.hardware.memory_bytes


def run(problem: Problem, group: int, batch: int, option: Option) -> Run:
    """The program of a group, its units in an order in which data flow."""
    order: list[int] = []
    while len(order) < group.bit_count():
        order += [
            index
            for index in problem.members(group)
            if index not in order
            and all(
                link.source in order or not group >> link.source & 1
                for link in problem.links
                if link.target == index
            )
        ]
    names = tuple(problem.units[index].name for index in order)
    memory = option.resident_bytes, option.working_bytes
    return Run(names, option.devices, batch, option.seconds, *memory, option.ring)


def _row(option: Option) -> tuple[float, ...]:
    peak = option.resident_bytes + option.working_bytes
    return option.devices, option.seconds, option.seconds, option.resident_bytes, peak


def _at(rule: int, cut: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    return np.stack([np.full_like(i, rule), np.full_like(i, cut), i, j], 1)
