"""The whole planner: greedy portfolio, local search, then rounds of exact searches."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from loomax.memory.planner.twin import quick
from loomax.memory.planner.twin.greedy import NOTHING, greedy_portfolio
from loomax.memory.planner.twin.local import improve_order
from loomax.memory.planner.twin.problem import Problem, make_index, make_problem
from loomax.memory.planner.twin.search import Outcome, Prefer, Search, Tie

STRATEGIES: tuple[tuple[Prefer, Tie], ...] = (
    ("long", "slack"),
    ("large", "floor"),
    ("short", "slack"),
    ("area", "floor"),
    ("large", "slack"),
    ("long", "floor"),
    ("short", "floor"),
    ("area", "slack"),
)
LEAST_NODES = 1_000
NODES_PER_BUFFER = 8
# Buffers times pairs of (buffer, section): one descent takes a node for each buffer, and a node
# looks at most of the pairs. Above, not even the first would end.
MOST_WORK = 1e9
# Rounds without a better plan or bound, beside four times those before, after which it gives up.
PATIENCE = 32
MOVE_WORK = 30_000_000
BISECTIONS = 6


@dataclass
class Found:
    """The best plan so far; `lower_bound` is proved."""

    offsets: Sequence[int]
    peak: int
    lower_bound: int
    method: str
    nodes: int = 0


@dataclass(frozen=True)
class Options:
    """As the compiled planner takes them: `capacity` and `rounds` below 0 stand for none."""

    capacity: int
    seed: int
    moves: int
    rounds: int
    seconds: float
    gap: float

    def goal(self, bound: int) -> int:
        """A peak that ends the work."""
        good = self.capacity if self.capacity >= 0 else int(float(bound) * (1.0 + self.gap))
        return max(good, bound)


def luby(turn: int) -> int:
    """1, 1, 2, 1, 1, 2, 4, 1, ..., counted from 1 (Luby, Sinclair, Zuckerman 1993)."""
    power = 1
    while 2 * power - 1 < turn:
        power *= 2
    return power if 2 * power - 1 == turn else luby(turn - power + 1)


class Team:
    """One search for each strategy, all for one capacity."""

    def __init__(self, problem: Problem, capacity: int, options: Options):
        index = make_index(problem)
        self.capacity, self.offsets, self.nodes = capacity, [], 0
        self.searches = [
            Search(problem, index, capacity, prefer, tie, options.seed + 7_919 * at)
            for at, (prefer, tie) in enumerate(STRATEGIES)
        ]

    def round(self, nodes: int, end: float) -> Outcome:
        """Gives every strategy `nodes` more; the first that knows the answer decides."""
        self.nodes = 0
        for search in self.searches:
            before = search.nodes
            outcome = search.run(nodes, end)
            self.nodes += search.nodes - before
            if outcome != "stopped":
                self.offsets = list(search.state.offset)
                return outcome
        return "stopped"


class Rounds:
    def __init__(self, problem: Problem, options: Options, end: float, found: Found):
        self.problem, self.options, self.end, self.found = problem, options, end, found
        self.unit = math.gcd(*problem.size)
        self.team: Team | None = None
        self.turn = self.improved = 0

    def run(self) -> None:
        unit = max(LEAST_NODES, NODES_PER_BUFFER * self.problem.count)
        while self.turn != self.options.rounds and not self._done():
            if self.options.capacity < 0 and self.turn > PATIENCE + 4 * self.improved:
                return
            nodes = unit * luby(self.turn + 1)
            self._attempt(nodes)
            if self.options.capacity < 0:
                self._bisect(nodes)
            self.turn += 1

    def _done(self) -> bool:
        found, capacity = self.found, self.options.capacity
        ruled_out = capacity >= 0 and found.lower_bound > capacity
        late = time.monotonic() > self.end
        return found.peak <= self.options.goal(found.lower_bound) or ruled_out or late

    def _attempt(self, nodes: int) -> None:
        """At the capacity, or at the least peak that has not been ruled out."""
        capacity = self.options.capacity
        target = capacity if capacity >= 0 else self.found.lower_bound
        if self.team is None or self.team.capacity != target:
            self.team = Team(self.problem, target, self.options)
        self._judge(self.team, nodes)

    def _bisect(self, nodes: int) -> None:
        """Between what was not found and what was."""
        below = self.found.lower_bound
        for _ in range(BISECTIONS):
            target = (below + (self.found.peak - below) // 2) // self.unit * self.unit
            if self._done() or not below < target < self.found.peak:
                return
            if self._judge(Team(self.problem, target, self.options), nodes) != "found":
                below = target

    def _judge(self, team: Team, nodes: int) -> Outcome:
        outcome, found = team.round(nodes, self.end), self.found
        found.nodes += team.nodes
        if outcome == "impossible":
            above = team.capacity // self.unit * self.unit + self.unit
            if above > found.lower_bound:
                found.lower_bound, self.improved = above, self.turn
        if outcome == "found":
            found.offsets, found.method = team.offsets, "search"
            found.peak, self.improved = self.problem.peak(team.offsets), self.turn
        return outcome


def make_plan(
    lower: Sequence[int], upper: Sequence[int], size: Sequence[int], options: Options
) -> Found:
    """The plan that the compiled planner makes, as long as both end before their time limit."""
    end = time.monotonic() + options.seconds
    problem = make_problem(lower, upper, size)
    goal = options.goal(problem.bound)
    greedy = NOTHING
    if problem.count >= quick.QUICK_FROM:
        greedy = quick.quick_portfolio(problem, goal, end)
    if greedy.peak > goal and (not greedy.offsets or time.monotonic() <= end):
        greedy = greedy_portfolio(problem, goal, end, greedy)
    found = Found(greedy.offsets, greedy.peak, problem.bound, "greedy")
    if found.peak <= goal:
        return found
    moves = min(options.moves, MOVE_WORK // problem.count**2)
    better = improve_order(problem, greedy, goal, moves, options.seed, end)
    if better.peak < found.peak:
        found = Found(better.offsets, better.peak, problem.bound, "local")
    entries = sum(problem.width(buffer) for buffer in range(problem.count))
    if found.peak > goal and float(entries) * problem.count <= MOST_WORK:
        Rounds(problem, options, end, found).run()
    return found
