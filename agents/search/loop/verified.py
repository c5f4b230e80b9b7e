"""A step with reasoning, and drafts beside it. The reasoning alone decides what is done."""

import asyncio
from collections.abc import Sequence

from loomax.agents.search.actions.call import Outcome
from loomax.agents.search.engine_protocol import Request
from loomax.agents.search.grammar.action import Answer, Malformed, ToolCall
from loomax.agents.search.loop.drafts import Drafts
from loomax.agents.search.loop.observe import observe
from loomax.agents.search.loop.session import Session, now
from loomax.agents.search.loop.turn import Turn, key_of
from loomax.agents.search.speculate.machine import PhaseState, after_verified


async def verified_step(
    session: Session, state: PhaseState, parent: Request | None
) -> tuple[Turn, PhaseState, Request]:
    """One turn, the calls that it asks for and their observation.

    Args:
        parent: the request before, whose pages are shared and then given up.

    Raises:
        EngineError: the engine gave the turn up.
    """
    speculator, start = session.parts.speculator, now()
    count = speculator.drafts(session.step) if speculator and _drafting(session, state) else 0
    main = await session.submit(session.tokens, session.sampling(), parent=parent)
    session.drop(parent)
    async with Drafts(session, main, count) as drafts:
        turn = await session.turn().read(main)
        session.parts.engine.halt(main)
        tokens = len(turn.tokens)
        session.trace.add("turn", session.step, tokens=tokens, seconds=now() - start)
        calls = [action for action in turn.actions if isinstance(action, ToolCall)]
        if speculator and count:
            hit = drafts.judge({key_of(call) for call in calls})
            state = after_verified(state, speculator.config, hit=hit)
        session.transcript = session.transcript.add(turn.tokens, "model")
        if any(isinstance(action, Answer) for action in turn.actions):
            return turn, state, main
        if calls and speculator:
            speculator.reasoning.add(tokens)
        if calls and session.step >= session.parts.config.steps:
            return turn, state, main
        outcomes = await _outcomes(session, turn.actions, drafts)
    observe(session, turn.actions, outcomes)
    return turn, state, main


def _drafting(session: Session, state: PhaseState) -> bool:
    """Whether this step may have drafts; the one that has to answer may not."""
    return state.phase == "verified" and session.step < session.parts.config.steps


async def _outcomes(
    session: Session, actions: Sequence[ToolCall | Answer | Malformed], drafts: Drafts
) -> list[Outcome | None]:
    """Runs all calls of a turn at once. What a draft has begun is shared by the server."""
    return await asyncio.gather(*(_outcome(session, action, drafts) for action in actions))


async def _outcome(
    session: Session, action: ToolCall | Answer | Malformed, drafts: Drafts
) -> Outcome | None:
    if not isinstance(action, ToolCall):
        detail = f"{action.fault}: {action.detail}" if isinstance(action, Malformed) else ""
        session.trace.add("fault", session.step, detail=detail)
        return None
    key = key_of(action)
    saved = drafts.saved_s(key)
    outcome = await session.call(action)
    if outcome.source == "run":
        session.trace.add("miss", session.step, seconds=outcome.seconds, detail=key)
    elif outcome.source and saved is not None:
        session.trace.add("hit", session.step, seconds=saved, detail=key)
    elif outcome.source:
        session.trace.add("reused", session.step, seconds=outcome.seconds, detail=key)
    return outcome
