"""The workers of a pool at work: waiting for them, and replacing those that are lost.

Imports no JAX.
"""

import logging
import time
from collections import Counter

from loomax.agents.workflow.external.config import PoolConfig
from loomax.agents.workflow.external.journal import Entry, Journal
from loomax.agents.workflow.external.protocol import (
    Answer,
    Engine,
    Request,
    SimulatorError,
    Worker,
    WorkerDied,
)
from loomax.agents.workflow.external.rows import Share

logger = logging.getLogger(__name__)


class Crew:
    """All workers of a pool.

    Args:
        usable: False after a worker failed for good, and while a call has not come back.
    """

    def __init__(self, config: PoolConfig, engine: Engine):
        self._config, self._engine = config, engine
        self._workers: list[Worker] = []
        self._journals = [Journal(config.replay_limit) for _ in range(config.count)]
        self._failures: Counter[int] = Counter()
        self.usable = True
        self.arena = engine.arena

    @property
    def pids(self) -> tuple[int | str | None, ...]:
        return tuple(worker.pid for worker in self._workers)

    def start(self) -> None:
        """Starts all at once and waits for each.

        Raises:
            SimulatorError: one could not start.
        """
        self._workers += [self._engine.start(index) for index in range(self._config.workers)]
        for worker in self._workers:
            self._started(worker, "pool")

    def close(self) -> None:
        """Ends all, and gives the shared memory back."""
        for worker in self._workers:
            worker.close() if self.usable else worker.kill()
        self._workers.clear()
        self._engine.close()

    def call(self, request: Request, caller: str) -> None:
        """Has the workers do their parts of a request, whose inputs lie in the arena.

        Raises:
            SimulatorError: a simulator raised something, or a worker failed too often.
        """
        if request.kind == "step":
            for share in request.shares:
                lost = self._journals[share.simulator].lost
                if lost:
                    raise SimulatorError(
                        f"{caller}: simulator {share.simulator} failed before ({lost}): reset it"
                    )
        self._failures.clear()
        self.usable = False
        parts = self._parts(request)
        errors = self._finish(parts, caller)
        self.usable = True
        if errors:
            raise SimulatorError(errors[0])

    def _parts(self, request: Request) -> dict[int, Request]:
        """The request of each worker; notes the inputs on the way."""
        config, parts = self._config, {}
        for index in range(config.workers):
            mine = config.simulators_of(index)
            shares = tuple(share for share in request.shares if share.simulator in mine)
            if not shares:
                continue
            due = []
            for share in shares if config.stateful else ():
                journal = self._journals[share.simulator]
                journal.add(request.kind, self.arena.part(request.kind, share.start, share.stop))
                due += [share.simulator] if journal.due(config.snapshot_every) else []
            parts[index] = Request(request.kind, shares, tuple(due))
        return parts

    def _finish(self, parts: dict[int, Request], caller: str) -> list[str]:
        """Waits until every worker has answered; errors that simulators raised."""
        limit, errors = self._config.step_s, []
        for index, part in parts.items():
            self._workers[index].send(part)
        ends = {index: time.monotonic() + limit for index in parts}
        while ends:
            waiting = [self._workers[index] for index in ends]
            ready = self._engine.wait(waiting, max(0.0, min(ends.values()) - time.monotonic()))
            for worker in ready:
                try:
                    answer = worker.receive()
                except WorkerDied as death:
                    self._replace(worker.index, str(death), parts[worker.index], caller)
                    ends[worker.index] = time.monotonic() + limit
                    continue
                del ends[worker.index]
                errors += self._note(worker, answer, parts[worker.index], caller)
            if not ready:
                late = [index for index, end in ends.items() if end <= time.monotonic()]
                for index in late:
                    why = f"gave no answer for {limit:g} s and was killed"
                    self._replace(index, why, parts[index], caller)
                    ends[index] = time.monotonic() + limit
        return errors

    def _note(self, worker: Worker, answer: Answer, part: Request, caller: str) -> list[str]:
        for simulator, state in answer.snapshots.items():
            self._journals[simulator].keep(state)
        if not answer.error:
            return []
        for share in part.shares:
            self._journals[share.simulator].lost = answer.reason if self._config.stateful else ""
        return [f"{self._name(worker, caller)} failed: {answer.reason}\n{answer.error}"]

    def _name(self, worker: Worker, caller: str) -> str:
        return f"{caller}: worker {worker.index} (pid {worker.pid})"

    def _replace(self, index: int, why: str, part: Request, caller: str) -> None:
        """A new worker in the place of a lost one, with the same state, at the same work."""
        limit = self._config.restarts
        while True:
            worker = self._workers[index]
            said = f"{self._name(worker, caller)} {why}"
            worker.kill()
            self._failures[index] += 1
            if self._failures[index] > limit:
                raise SimulatorError(f"{said}, after {limit} restarts in this call")
            self._check_replayable(index, said)
            logger.warning("%s; restart %d of %d", said, self._failures[index], limit)
            self._workers[index] = worker = self._engine.start(index)
            self._started(worker, caller)
            try:
                self._replay(worker, part, caller)
            except WorkerDied as death:
                why = f"{death} while its work was replayed"
                continue
            worker.send(part)
            return

    def _check_replayable(self, index: int, said: str) -> None:
        for simulator in self._config.simulators_of(index):
            if not self._journals[simulator].replayable:
                raise SimulatorError(
                    f"{said}; simulator {simulator} made more than {self._config.replay_limit} "
                    "steps since its reset: give it snapshot and restore, or raise replay_limit"
                )

    def _replay(self, worker: Worker, part: Request, caller: str) -> None:
        """Repeats what is noted, but for the call at hand, whose inputs it lays out again."""
        at_hand = {share.simulator for share in part.shares}
        each = self._config.rows_each
        for simulator in self._config.simulators_of(worker.index) if self._config.stateful else ():
            share = Share(simulator, simulator * each, (simulator + 1) * each)
            journal = self._journals[simulator]
            if journal.lost:
                continue
            if journal.state is not None:
                restores = {simulator: journal.state}
                self._answered(worker, Request("step", (), restores=restores), caller)
            entries = journal.entries
            for entry in entries[:-1] if simulator in at_hand else entries:
                self._lay_out(share, entry)
                self._answered(worker, Request(entry.kind, (share,)), caller)
            if simulator in at_hand:
                self._lay_out(share, entries[-1])

    def _lay_out(self, share: Share, entry: Entry) -> None:
        for name, place in self.arena.part(entry.kind, share.start, share.stop).items():
            place[...] = entry.arrays[name]

    def _answered(self, worker: Worker, request: Request, caller: str) -> None:
        worker.send(request)
        if not self._engine.wait([worker], self._config.step_s):
            raise WorkerDied(f"gave no answer for {self._config.step_s:g} s and was killed")
        answer = worker.receive()
        if answer.error:
            # It raised in the call that was lost, or is not deterministic.
            raise SimulatorError(f"{self._name(worker, caller)} failed: {answer.reason}")

    def _started(self, worker: Worker, caller: str) -> None:
        limit = self._config.start_s
        if not self._engine.wait([worker], limit):
            raise SimulatorError(
                f"{self._name(worker, caller)} did not start within {limit:g} s: raise start_s"
            )
        try:
            answer = worker.receive()
        except WorkerDied as death:
            answer = Answer(f"{death} before it was ready; what it printed is above")
        if answer.error:
            raise SimulatorError(f"{self._name(worker, caller)} did not start: {answer.reason}")
