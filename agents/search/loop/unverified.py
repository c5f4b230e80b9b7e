"""A step of the aggressive phase: the action is drafted without reasoning and taken as it is."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from loomax.agents.search.engine_protocol import EngineError, Request
from loomax.agents.search.grammar.action import Answer, Malformed, ToolCall
from loomax.agents.search.loop.observe import documents, observe
from loomax.agents.search.loop.session import Session, now
from loomax.agents.search.loop.turn import Turn, key_of
from loomax.agents.search.retrieval.document import Document
from loomax.agents.search.speculate.config import Scorer, SpeculationConfig
from loomax.agents.search.speculate.machine import (
    Draft,
    PhaseState,
    accepts,
    after_unverified,
    leave,
)
from loomax.agents.search.speculate.scheduler import Speculator


class Memory:
    """What a run has asked and found, to see when it turns in circles."""

    def __init__(self):
        self._keys: set[str] = set()
        self._documents: set[Document] = set()

    def repeated(self, key: str, found: Sequence[Document]) -> bool:
        """Whether a call or all its documents were there before; remembers them."""
        new = set(found) - self._documents
        repeated = key in self._keys or (bool(found) and not new)
        self._keys.add(key)
        self._documents |= new
        return repeated


async def unverified_step(
    session: Session,
    speculator: Speculator,
    state: PhaseState,
    memory: Memory,
    parent: Request | None,
) -> tuple[bool, PhaseState, Request | None]:
    """Tries a step without reasoning.

    Args:
        parent: the request before; given up if there is a new one.

    Returns:
        Whether the step was taken, the next state, and the request that holds the context's pages.
    """
    config, opening, start = speculator.config, session.parts.codec.opening, now()
    turn = session.turn(draft=True)
    try:
        lead = await session.submit(
            (*session.tokens, *opening),
            session.sampling(1),
            kind=session.draft_kind(),
            parent=parent,
        )
        session.drop(parent)
        parent = lead
        await turn.read(lead)
        session.parts.engine.halt(lead)
        confidence = await _confidence(session, config.scorer, lead, turn)
    except EngineError as error:
        session.trace.add("draft_failed", session.step, number=1, detail=str(error))
        return False, leave(state, config, "the engine gave the draft up"), parent
    call, kind = _action(turn)
    refusal = accepts(config, kind, confidence)
    if call is not None and call.tool not in session.parts.config.unverified:
        refusal = f"{call.tool} may not be called without reasoning"
    figures = {"tokens": len(turn.tokens), "seconds": now() - start, "confidence": confidence}
    if call is None or refusal:
        session.trace.add("refused", session.step, number=1, detail=refusal, **figures)
        return False, leave(state, config, refusal), parent
    speculator.draft.add(len(turn.tokens))
    session.trace.add("unverified", session.step, number=1, detail=key_of(call), **figures)
    return True, await _take(session, config, state, memory, turn, call), parent


async def _take(
    session: Session,
    config: SpeculationConfig,
    state: PhaseState,
    memory: Memory,
    turn: Turn,
    call: ToolCall,
) -> PhaseState:
    """Makes the call and adds both to the transcript."""
    # What was forced is not what the model wrote.
    opened = session.transcript.add(session.parts.codec.opening, "prompt")
    session.transcript = opened.add(turn.tokens, "model")
    outcome = await session.call(call)
    found = documents(outcome.value) if outcome.ok else []
    observe(session, [call], [outcome])
    return after_unverified(
        state,
        config,
        ok=outcome.ok,
        empty=not found,
        repeated=memory.repeated(key_of(call), found),
    )


async def _confidence(session: Session, scorer: Scorer, lead: Request, turn: Turn) -> float:
    """The least token probability, or what the model says of its draft (SPAgent, III-D)."""
    codec = session.parts.codec
    if scorer == "probability" or not codec.question:
        return turn.confidence
    sampling = replace(session.sampling(1), most=1, temperature=0.0, stops=())
    scoring = await session.fork(lead, codec.question, sampling, at="end", kind="score")
    try:
        async with aclosing(scoring.__aiter__()) as pieces:
            async for piece in pieces:
                for token in piece.tokens:
                    return codec.score(token)
    finally:
        session.drop(scoring)
    return 0.0


def _action(turn: Turn) -> tuple[ToolCall | None, Draft]:
    """The only call of a draft, and what the draft is."""
    calls = [action for action in turn.actions if isinstance(action, ToolCall)]
    if any(isinstance(action, Answer) for action in turn.actions):
        return None, "answer"
    if any(isinstance(action, Malformed) for action in turn.actions) or len(calls) != 1:
        return None, "malformed"
    return calls[0], "call"
