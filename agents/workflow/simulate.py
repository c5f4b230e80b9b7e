"""Replays a plan as discrete events. Imports no JAX.

Without contention (every transfer has a link to itself) the replay ends when the closed form of
`plan.tree` says, unless two sides that run side by side trade places: where one has the larger
latency and the other the larger period, the closed form is up to `slack` later. With one link for
all transfers the replay ends at most the sum of all transfers after the replay without: follow
the chain of tasks that ends last backwards; whenever it waits, the link is busy (the argument of
Graham, SIAM J. Appl. Math. 17, 1969).
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from loomax.agents.workflow.plan.tree import Chunks, Plan, Run, Shared, cost
from loomax.agents.workflow.tasks import Parts, Task, unroll


@dataclass(frozen=True)
class Event:
    """A task and when it ran, in seconds from the start."""

    task: Task
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Timeline:
    """What happened, in order of starting.

    Args:
        devices: of the plan.
    """

    events: tuple[Event, ...]
    devices: int

    @property
    def seconds(self) -> float:
        """Until the last event ends."""
        return max((event.end_s for event in self.events), default=0.0)

    @property
    def busy(self) -> float:
        """Share of the device-seconds in which stages run."""
        used = sum(
            event.task.devices * (event.end_s - event.start_s)
            for event in self.events
            if event.task.kind == "run"
        )
        whole = self.devices * self.seconds
        return used / whole if whole else 0.0


def simulate(
    plan: Plan,
    passes: int = 1,
    *,
    parts: Parts | None = None,
    one_link: bool = False,
    seconds: Callable[[Task], float] | None = None,
) -> Timeline:
    """Replays `passes` batches.

    Args:
        parts: stages of the units that are cycles, whose calls then show one by one.
        one_link: all transfers share one link, first come first served.
        seconds: of a task, where it differs from the plan's: measured times, a slow stage.
    """
    tasks = unroll(plan, passes, parts)
    events = _Replay(tasks, one_link, seconds or (lambda task: task.seconds)).run()
    return Timeline(tuple(events), cost(plan).devices)


class _Replay:
    """Event by event: a task starts when those before it are done and its link is free."""

    def __init__(self, tasks: list[Task], one_link: bool, seconds: Callable[[Task], float]):
        self.tasks, self.one_link, self.seconds = tasks, one_link, seconds
        self.waits = [len(set(task.after)) for task in tasks]
        self.followers: list[list[int]] = [[] for _ in tasks]
        for index, task in enumerate(tasks):
            for before in set(task.after):
                self.followers[before].append(index)
        self.queue: deque[int] = deque()
        self.link_free = True
        self.running: list[tuple[float, int, float]] = []

    def run(self) -> list[Event]:
        for index in range(len(self.tasks)):
            if not self.waits[index]:
                self._ready(index, 0.0)
        events = []
        while self.running:
            end, index, start = heapq.heappop(self.running)
            task = self.tasks[index]
            if task.kind != "join":
                events.append(Event(task, start, end))
            for follower in self.followers[index]:
                self.waits[follower] -= 1
                if not self.waits[follower]:
                    self._ready(follower, end)
            if self.one_link and task.kind == "transfer":
                self.link_free = True
                if self.queue:
                    self._start(self.queue.popleft(), end)
        return sorted(events, key=lambda event: (event.start_s, event.end_s))

    def _ready(self, index: int, now: float) -> None:
        shares = self.one_link and self.tasks[index].kind == "transfer"
        if shares and not self.link_free:
            self.queue.append(index)
        else:
            self._start(index, now)

    def _start(self, index: int, now: float) -> None:
        task = self.tasks[index]
        if task.kind == "transfer":
            self.link_free = False
        heapq.heappush(self.running, (now + self.seconds(task), index, now))


def slack(plan: Plan, passes: int = 1) -> float:
    """Seconds by which the closed form may be late: 0 unless parallel sides trade places."""
    latency, period = _slack(plan)
    return latency + (passes - 1) * period


def _slack(plan: Plan) -> tuple[float, float]:
    """Lateness of the latency and of the period."""
    if isinstance(plan, Run):
        return 0.0, 0.0
    if isinstance(plan, Chunks):
        latency, period = _slack(plan.child)
        return latency + (plan.count - 1) * period, plan.count * period
    one, two = _slack(plan.first), _slack(plan.second)
    if isinstance(plan, Shared):
        return one[0] + two[0], one[0] + two[0]
    late = max(one[1], two[1])
    if not plan.parallel:
        return one[0] + two[0], late
    first, second = cost(plan.first), cost(plan.second)
    later = first.latency_s - second.latency_s
    trade = later * (first.period_s - second.period_s) < 0
    return max(one[0], two[0]) + (abs(later) if trade else 0.0), late
