"""Plans a step and accounts for it. Plain Python; nothing here waits or touches the device.

All of it runs between two steps, except `halt` and `abort`, which a caller may use while a step is
under way: what that step computes for such a request is dropped.
"""

from collections.abc import Sequence

from loomax.agents.engine import buckets
from loomax.agents.engine.config import EngineConfig
from loomax.agents.engine.memory import Memory
from loomax.agents.engine.policy import Policy
from loomax.agents.engine.request import EngineRequest
from loomax.agents.engine.speculative.guess import Guesser
from loomax.agents.engine.work import Call, Result, Row, Work

SHORT = ("draft", "score")


class Scheduler:
    """The queue, the slots and what requests hold.

    Counts running requests that were `preempted`, and tokens that were `guessed` and `accepted`.

    Args:
        guesser: guesses tokens to verify.
    """

    def __init__(self, config: EngineConfig, memory: Memory, policy: Policy, guesser: Guesser):
        self.config, self.memory = config, memory
        self.waiting: list[EngineRequest] = []
        # In order of arrival.
        self.held: dict[EngineRequest, None] = {}
        self.preempted = self.guessed = self.accepted = 0
        self._policy, self._guesser = policy, guesser
        self._slots: list[EngineRequest | None] = [None] * config.slots

    @property
    def running(self) -> list[EngineRequest]:
        """Requests in slots, in order of arrival."""
        found = [request for request in self._slots if request is not None]
        return sorted(found, key=lambda request: request.ticket.number)

    def add(self, request: EngineRequest) -> None:
        """A new request."""
        self.held[request] = None
        self.waiting.append(request)

    def abort(self, request: EngineRequest) -> None:
        """Ends a request and gives up what it holds."""
        request.end()
        request.aborted = True
        if request in self.held:
            del self.held[request]
            self._leave(request)
            self.memory.release(request)

    def plan(self) -> Work | None:
        """The next step; None if there is nothing to do."""
        self._sweep()
        self._admit()
        calls = [call for call in (self._prefill(), self._decode()) if call is not None]
        return self.memory.collect(self._surviving(calls))

    def account(self, work: Work, results: Sequence[Sequence[Result]]) -> tuple[int, int]:
        """Takes the results of a step; returns how many requests got tokens and prompt tokens."""
        decoding = prefilled = 0
        for call, found in zip(work.calls, results, strict=True):
            for row, result in zip(call.parts, found, strict=True):
                if row.request.slot == row.slot and not row.request.aborted:
                    self._advance(row, result)
                decoding += bool(result.tokens)
                prefilled += 0 if call.verify or len(row.tokens) == 1 else len(row.tokens)
        return decoding, prefilled

    def _advance(self, row: Row, result: Result) -> None:
        request, memory = row.request, self.memory
        if row.room > 1:
            self.guessed += row.room - 1
            self.accepted += result.computed - 1
        request.computed = row.start + result.computed
        request.push(result.tokens, result.logprobs)
        # An output that ended early, or a halted request, leaves the states ahead of its tokens.
        ahead = request.computed > len(request.tokens)
        request.computed = min(request.computed, len(request.tokens))
        edge = request.computed % self.config.snapshot_every == 0
        if not ahead and (edge or request.ended or request.computed == request.prompt):
            memory.save(request)
        if request.computed >= request.prompt and not request.published:
            request.published = True
            memory.publish(request)
        if request.ended:
            self._leave(request)

    def _sweep(self) -> None:
        """Takes requests out that ended since the last step."""
        self.waiting = [request for request in self.waiting if not request.ended]
        for request in self.running:
            if request.ended:
                self.memory.save(request)
                self._leave(request)

    def _leave(self, request: EngineRequest) -> None:
        """Frees the slot; what was computed goes into the prefix cache."""
        self.memory.publish(request)
        if request.slot is not None:
            self._slots[request.slot] = None
            request.slot = None

    def _admit(self) -> None:
        ready = {request.ticket: request for request in self.waiting if self._ready(request)}
        if not ready:
            return
        running = [request.ticket for request in self.running]
        for ticket in self._policy.admit(list(ready), running, self.config.slots):
            request, taken = ready[ticket], len(self.running)
            if taken and not self.memory.fits(request, taken):
                break
            self.waiting.remove(request)
            request.slot = self._slots.index(None)
            self._slots[request.slot] = request
            self.memory.begin(request)

    def _ready(self, request: EngineRequest) -> bool:
        """Whether nobody else is about to compute what a request begins with."""
        if request.awaits is None:
            return True
        parent, common = request.awaits
        if parent.computed < common and not parent.ended:
            return False
        request.awaits = None
        self.memory.inherit(request, parent, common)
        return True

    def _prefill(self) -> Call | None:
        """Tokens of prompts, in the order of arrival; those that share a step are short."""
        pending = [request for request in self.running if request.pending > 1]
        if not pending:
            return None
        counts = [self._until(request) for request in pending]
        rows, length = buckets.prefill(self.config, counts)
        parts = []
        for request, count in list(zip(pending, counts, strict=True))[:rows]:
            count = min(count, length)
            # Somebody may have lost its slot to those before it.
            if request.slot is not None and self._room(request, request.computed + count):
                parts.append(_row(request, count))
        return Call(rows, length, tuple(parts))

    def _until(self, request: EngineRequest) -> int:
        """Tokens to compute at once: up to the last place at which a snapshot is wanted."""
        end = min(len(request.tokens), request.computed + self.config.chunks[-1])
        if self.memory.recurrent and end < len(request.tokens):
            aligned = end - end % self.config.snapshot_every
            end = aligned if aligned > request.computed else end
        return end - request.computed

    def _decode(self) -> Call | None:
        parts, most = [], 1
        for request in self.running:
            if request.pending == 1 and request.slot is not None:
                if self._room(request, len(request.tokens)):
                    parts.append(self._guess(request))
                    most = max(most, parts[-1].room)
        if not parts:
            return None
        guesses = self._guesser.config.tokens if most > 1 else 0
        return Call(self.config.slots, 1 + guesses, tuple(parts), verify=most > 1)

    def _guess(self, request: EngineRequest) -> Row:
        """A row with guesses, as far as there is room for them without anybody giving way."""
        most = min(self._guesser.config.tokens, request.left - 1)
        guesses, count = self._guesser.guess(request, most)
        if not count or not self.memory.grow(request, len(request.tokens) + count):
            return _row(request, 1)
        return _row(request, 1, guesses, 1 + count)

    def _room(self, request: EngineRequest, tokens: int) -> bool:
        """Pages for a request; whether it still has its slot."""
        while request.slot is not None and not self.memory.grow(request, tokens):
            self._give_way()
        return request.slot is not None

    def _give_way(self) -> None:
        """Frees some pages: drafts first, then what ended, then what waits, then who came last."""
        running = {request.ticket: request for request in self.running}
        chosen = running[self._policy.victim(list(running))]
        if chosen.kind in SHORT:
            chosen.end(f"preempted: {self.config.pages} pages are too few for all that runs")
            self._leave(chosen)
            self.memory.release(chosen)
            return
        ended = [request for request in self.held if request.ended]
        for idle in (*ended, *reversed(self.waiting)):
            if idle.slot is None and idle.pages:
                self.memory.release(idle)
                return
        self._leave(chosen)
        self.memory.release(chosen)
        self.waiting.append(chosen)
        self.preempted += 1

    def _surviving(self, calls: list[Call]) -> list[Call]:
        """Calls without the rows of those who gave way after they were planned."""
        kept = []
        for call in calls:
            parts = tuple(row for row in call.parts if row.request.slot == row.slot)
            if parts:
                kept.append(Call(call.rows, call.length, parts, call.verify))
        return kept


def _row(request: EngineRequest, count: int, guesses: Sequence[int] = (), room: int = 1) -> Row:
    start = request.computed
    tokens = (*request.tokens[start : start + count], *guesses)
    return Row(
        request,
        request.slot if request.slot is not None else -1,
        start,
        tokens,
        tuple(request.pages),
        start + count == len(request.tokens),
        room,
    )
