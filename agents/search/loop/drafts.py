"""The drafts of one verified step: they run beside the reasoning, and their tool calls too."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from loomax.agents.search.engine_protocol import EngineError, Request
from loomax.agents.search.grammar.action import ToolCall
from loomax.agents.search.loop.session import Session, now
from loomax.agents.search.loop.turn import Turn, key_of


@dataclass(eq=False)
class _Draft:
    """One draft.

    Args:
        key: of its call once it is known; "" for what is no call.
        begun, ended: seconds at which its call did; a duplicate has none.
    """

    number: int
    turn: Turn
    done: bool = False
    key: str = ""
    begun: float | None = None
    ended: float | None = None
    task: asyncio.Task | None = None


class Drafts:
    """Use as `async with`: when it is left, nothing of a draft is left.

    Args:
        parent: whose prompt is forked.
    """

    def __init__(self, session: Session, parent: Request, count: int):
        self._session, self._parent = session, parent
        self._drafts = [_Draft(number + 1, session.turn(draft=True)) for number in range(count)]

    async def __aenter__(self) -> "Drafts":
        for draft in self._drafts:
            draft.task = asyncio.create_task(self._run(draft))
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [draft.task for draft in self._drafts if draft.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def judge(self, keys: Collection[str]) -> bool:
        """Ends the drafts that are not what the reasoning came to; returns whether one is.

        Args:
            keys: of the calls that the model made.
        """
        session, hits = self._session, []
        for draft in self._drafts:
            right = draft.done and draft.key in keys and draft.key != ""
            hits.append(right)
            if not right and draft.task:
                draft.task.cancel()
            kind = "right" if right else "wrong" if draft.done else "dropped"
            tokens = len(draft.turn.tokens)
            # A step that asks for nothing tells nothing about how well calls are guessed.
            detail = "" if keys else "no call"
            session.trace.add(kind, session.step, number=draft.number, tokens=tokens, detail=detail)
            speculator = session.parts.speculator
            if draft.done and speculator:
                speculator.hits.judge(session.step, right)
        return any(hits)

    def saved_s(self, key: str) -> float | None:
        """Seconds for which the call with a key has run already; None if it has not begun."""
        for draft in self._drafts:
            if draft.key == key and draft.begun is not None:
                return (now() if draft.ended is None else draft.ended) - draft.begun
        return None

    async def _run(self, draft: _Draft) -> None:
        try:
            await self._generate(draft)
            call = _call(draft.turn)
            if call is not None:
                await self._ahead(draft, call)
        except EngineError as error:
            self._failed(draft, str(error))
        except Exception as error:
            # A guess that went wrong must not disturb the request.
            self._failed(draft, repr(error))

    async def _generate(self, draft: _Draft) -> None:
        session, request = self._session, None
        start, opening = now(), session.parts.codec.opening
        try:
            request = await session.fork(
                self._parent,
                opening,
                session.sampling(draft.number),
                kind=session.draft_kind(),
            )
            await draft.turn.read(request)
        finally:
            session.drop(request)
        draft.done = True
        tokens = len(draft.turn.tokens)
        if session.parts.speculator:
            session.parts.speculator.draft.add(tokens)
        session.trace.add(
            "draft",
            session.step,
            number=draft.number,
            tokens=tokens,
            seconds=now() - start,
            confidence=draft.turn.confidence,
            detail=" ".join(map(_short, draft.turn.actions)),
        )

    async def _ahead(self, draft: _Draft, call: ToolCall) -> None:
        """Begins the call of a draft, unless an equal draft has."""
        key = key_of(call)
        first = self.saved_s(key) is None
        draft.key = key
        if not first or not key:
            return
        draft.begun = now()
        self._session.trace.add("ahead", self._session.step, number=draft.number, detail=key)
        await self._session.call(call, speculative=True)
        draft.ended = now()

    def _failed(self, draft: _Draft, detail: str) -> None:
        self._session.trace.add(
            "draft_failed", self._session.step, number=draft.number, detail=detail
        )


def _call(turn: Turn) -> ToolCall | None:
    """The first action, if it is a call."""
    first = next(iter(turn.actions), None)
    return first if isinstance(first, ToolCall) else None


def _short(action: object) -> str:
    return key_of(action) if isinstance(action, ToolCall) else type(action).__name__.lower()
