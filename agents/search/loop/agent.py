"""The ReAct loop (Yao et al., arXiv 2210.03629): turns and observations until there is an answer.

Nothing but the caller's own cancellation leaves `SearchAgent.run`; everything else is how the run
ended. Whatever happens, the engine has no request of the run afterwards, and no tool a call.
"""

import asyncio
from dataclasses import dataclass
from typing import Literal

from loomax.agents.search.engine_protocol import EngineError, Request
from loomax.agents.search.grammar.action import Answer, Malformed
from loomax.agents.search.grammar.transcript import Transcript
from loomax.agents.search.grammar.untrusted import whole
from loomax.agents.search.loop.session import Parts, Session, now
from loomax.agents.search.loop.turn import Turn
from loomax.agents.search.loop.unverified import Memory, unverified_step
from loomax.agents.search.loop.verified import verified_step
from loomax.agents.search.speculate.machine import PhaseState, leave, start
from loomax.agents.search.trace.events import Event, Sink, Trace

End = Literal["answered", "steps", "faults", "context", "deadline", "engine", "error", "question"]


@dataclass(frozen=True)
class Run:
    """How a question went.

    Args:
        answer: None if there is none.
        detail: why, for people.
        steps: tool turns.
        seconds: from start to end.
    """

    answer: str | None
    end: End
    detail: str
    steps: int
    seconds: float
    transcript: Transcript
    events: tuple[Event, ...]


@dataclass(frozen=True)
class _Ended:
    end: End
    answer: str | None = None
    detail: str = ""


class SearchAgent:
    """Answers questions; any number at once."""

    def __init__(self, parts: Parts):
        self._parts = parts

    async def run(
        self, question: str, *, name: str = "", seed: int = 0, sink: Sink | None = None
    ) -> Run:
        """Answers one question.

        Args:
            name: of the request, in logs.
            seed: of its sampling.
            sink: gets the events as they happen.
        """
        # A command line may hold bytes that are no text.
        question = whole(question)
        trace, began = Trace(name, sink), now()
        session = Session(self._parts, name, seed, trace)
        limit = asyncio.timeout(self._parts.config.deadline_s)
        trace.add("start", 0, detail=question)
        try:
            async with limit:
                ended = await self._answer(session, question)
        except asyncio.CancelledError:
            trace.add("cancelled", session.step, seconds=now() - began)
            raise
        except Exception as error:
            ended = self._failed(error, limit.expired())
        finally:
            session.close()
        seconds = now() - began
        detail = f"{ended.end}: {ended.detail or ended.answer}"
        trace.add("end", session.step, seconds=seconds, detail=detail)
        return Run(
            ended.answer,
            ended.end,
            ended.detail,
            session.step,
            seconds,
            session.transcript,
            tuple(trace.events),
        )

    def _failed(self, error: Exception, late: bool) -> _Ended:
        if late:
            return _Ended("deadline", None, f"over {self._parts.config.deadline_s} s")
        if isinstance(error, EngineError):
            return _Ended("engine", None, str(error))
        return _Ended("error", None, repr(error))

    async def _answer(self, session: Session, question: str) -> _Ended:
        parts, config = self._parts, self._parts.config
        try:
            session.transcript = Transcript().add(parts.codec.prompt(question), "prompt")
        except ValueError as error:
            return _Ended("question", None, str(error))
        state = start(parts.speculator.config) if parts.speculator else PhaseState("off")
        session.trace.add("phase", 0, detail=state.phase)
        memory, faults, held = Memory(), 0, None
        while True:
            if len(session.transcript) + config.turn > config.context:
                used = len(session.transcript)
                return _Ended("context", None, f"{used} tokens leave no room for a turn")
            before = state
            taken, state, held = await self._unverified(session, state, memory, held)
            self._phase(session, before, state)
            if taken:
                session.step += 1
                continue
            before = state
            turn, state, held = await verified_step(session, state, held)
            self._phase(session, before, state)
            ended, faults = _judge(session, turn, faults)
            if ended:
                return ended

    async def _unverified(
        self, session: Session, state: PhaseState, memory: Memory, held: Request | None
    ) -> tuple[bool, PhaseState, Request | None]:
        speculator = self._parts.speculator
        if speculator is None or state.phase != "aggressive":
            return False, state, held
        # The last turns belong to a search with reasoning and to the answer.
        if session.step + 1 >= self._parts.config.steps:
            return False, leave(state, speculator.config, "the last steps are verified"), held
        if not speculator.unverified_pays(session.step):
            return False, leave(state, speculator.config, "drafts do not pay"), held
        return await unverified_step(session, speculator, state, memory, held)

    def _phase(self, session: Session, before: PhaseState, after: PhaseState) -> None:
        if before.phase != after.phase:
            detail = f"{after.phase}: {after.reason}"
            session.trace.add("phase", session.step, detail=detail)


def _judge(session: Session, turn: Turn, faults: int) -> tuple[_Ended | None, int]:
    """Whether a run ends with a turn, and the faults so far."""
    config = session.parts.config
    for action in turn.actions:
        if isinstance(action, Answer):
            return _Ended("answered", action.text), faults
    broken = [action for action in turn.actions if isinstance(action, Malformed)]
    if broken and len(broken) == len(turn.actions):
        faults += 1
        last = f"{broken[-1].fault}: {broken[-1].detail}"
        return (_Ended("faults", None, last) if faults > config.faults else None), faults
    if session.step >= config.steps:
        return _Ended("steps", None, f"{config.steps} steps and no answer"), faults
    session.step += 1
    return None, faults
