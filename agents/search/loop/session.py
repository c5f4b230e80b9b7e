"""One run's hold on the engine, the tools, its budget and its trace."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from loomax.agents.search.actions.budget import Budget
from loomax.agents.search.actions.call import Call, Outcome
from loomax.agents.search.actions.server import ActionServer
from loomax.agents.search.engine_protocol import Engine, Kind, Place, Request, Sampling
from loomax.agents.search.grammar.action import ToolCall
from loomax.agents.search.grammar.grammar import Grammar
from loomax.agents.search.grammar.transcript import Transcript
from loomax.agents.search.loop.codec import Codec
from loomax.agents.search.loop.config import LoopConfig
from loomax.agents.search.loop.turn import Turn
from loomax.agents.search.speculate.scheduler import Speculator
from loomax.agents.search.trace.events import Trace


@dataclass(frozen=True)
class Parts:
    """What all runs share.

    Args:
        speculator: None never speculates.
    """

    engine: Engine
    server: ActionServer
    grammar: Grammar
    codec: Codec
    config: LoopConfig = field(default_factory=LoopConfig)
    speculator: Speculator | None = None


class Session:
    """One run while it goes on; `close` leaves no request in the engine."""

    def __init__(self, parts: Parts, name: str, seed: int, trace: Trace):
        self.parts, self.name, self.seed, self.trace = parts, name, seed, trace
        self.transcript, self.step = Transcript(), 0
        self.budget = Budget(parts.config.budget)
        # In order, since a set of objects would be closed in another order each time.
        self._held: dict[int, Request] = {}

    @property
    def tokens(self) -> tuple[int, ...]:
        """The whole context."""
        return tuple(token for span in self.transcript.spans for token in span.tokens)

    async def submit(
        self,
        tokens: Sequence[int],
        sampling: Sampling,
        *,
        kind: Kind = "main",
        parent: Request | None = None,
    ) -> Request:
        """See `Engine`."""
        made = await self.parts.engine.submit(tokens, sampling, kind=kind, parent=parent)
        self._held[id(made)] = made
        return made

    async def fork(
        self,
        request: Request,
        forced: Sequence[int],
        sampling: Sampling,
        *,
        at: Place = "prompt",
        kind: Kind = "draft",
    ) -> Request:
        """See `Engine`."""
        made = await self.parts.engine.fork(request, forced, sampling, at=at, kind=kind)
        self._held[id(made)] = made
        return made

    def drop(self, request: Request | None) -> None:
        """Gives a request up."""
        if request is not None and self._held.pop(id(request), None) is not None:
            self.parts.engine.abort(request)

    def close(self) -> None:
        """Gives every request up."""
        for request in list(self._held.values()):
            self.drop(request)

    def turn(self, *, draft: bool = False) -> Turn:
        """Something to read a turn or a draft."""
        parts = self.parts
        forced = parts.codec.opening if draft else ()
        most = parts.config.draft if draft else parts.config.turn
        return Turn(parts.grammar, parts.codec, most, forced)

    def sampling(self, draft: int = 0) -> Sampling:
        """How a turn is sampled, or a draft with its number."""
        config = self.parts.config
        return Sampling(
            config.draft if draft else config.turn,
            config.more_temperature if draft > 1 else config.temperature,
            self.parts.grammar.stops,
            self.seed,
            draft,
        )

    async def call(self, call: ToolCall, *, speculative: bool = False) -> Outcome:
        """Runs a tool call; a failure goes into the trace."""
        outcome = await self.parts.server.call(
            Call(call.tool, call.arguments, self.name, speculative, self.budget)
        )
        if outcome.ok and outcome.source == "run" and self.parts.speculator:
            self.parts.speculator.tool_s[call.tool].add(outcome.seconds)
        if not outcome.ok:
            ahead = "ahead: " if speculative else ""
            detail = f"{ahead}{outcome.status}: {outcome.detail}"
            self.trace.add("failed", self.step, seconds=outcome.seconds, detail=detail)
        return outcome

    def draft_kind(self) -> Kind:
        """The class of drafts in the engine's queue."""
        speculator = self.parts.speculator
        return "draft" if speculator and speculator.config.drafts_first else "main"


def now() -> float:
    """Seconds of the event loop."""
    return asyncio.get_running_loop().time()
