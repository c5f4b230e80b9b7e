"""What the model gets to read after its turn."""

from collections.abc import Callable, Sequence
from typing import Any

from loomax.agents.search.actions.call import Outcome
from loomax.agents.search.grammar.action import Malformed, ToolCall
from loomax.agents.search.grammar.transcript import clip
from loomax.agents.search.loop.room import fit
from loomax.agents.search.loop.session import Session
from loomax.agents.search.retrieval.document import Document, Hit


def observe(
    session: Session,
    actions: Sequence[ToolCall | Malformed],
    outcomes: Sequence[Outcome | None],
) -> None:
    """Adds the observation of a turn to the transcript; each action has its reply in it.

    Where it would be too long, documents are cut (see `room`) and not the text that holds them,
    so that each call keeps its reply, and each reply its form.

    Args:
        outcomes: one an action; a malformed action has none.
    """
    step = session.step
    found = [_found(session, outcome) for outcome in outcomes]
    try:
        tokens = _fitted(session, actions, found)
    except ValueError as error:
        # A document that has no tokens; the run goes on as if nothing had been found.
        session.trace.add("failed", step, detail=f"malformed: {error}")
        tokens = _fitted(session, actions, [[] for _ in actions])
    session.transcript = session.transcript.add(tokens, "observation")
    session.trace.add("observation", step, tokens=len(tokens))


def _fitted(
    session: Session, actions: Sequence[ToolCall | Malformed], found: Sequence[list[Document]]
) -> tuple[int, ...]:
    """The tokens of an observation, no more than are allowed."""
    grammar, codec = session.parts.grammar, session.parts.codec

    def make(shorten: Callable[[Sequence[Document]], list[Document]]) -> tuple[int, ...]:
        return codec.observation(
            [
                grammar.correct(action)
                if isinstance(action, Malformed)
                else grammar.observe(action, shorten(held))
                for action, held in zip(actions, found, strict=True)
            ]
        )

    most = session.parts.config.observation
    fitted = fit(make, found, most)
    if fitted is not None:
        return fitted
    bare = make(lambda held: [])
    # Messages without their ends would be no messages: those are longer than allowed instead.
    return clip(bare, most, codec.closing) if codec.closing else bare


def documents(value: Any) -> list[Document]:
    """The documents of a tool's result; what is no hit is a document of its own."""
    found = value if isinstance(value, list | tuple) else [value]
    return [_document(each) for each in found]


def _document(value: Any) -> Document:
    if isinstance(value, Hit):
        return value.document
    return value if isinstance(value, Document) else Document("", "", str(value))


def _found(session: Session, outcome: Outcome | None) -> list[Document]:
    """What a call came to, as documents."""
    if outcome is not None and outcome.ok:
        return documents(outcome.value)
    if outcome is not None and session.parts.config.failure == "status":
        return [Document("", outcome.status, outcome.detail)]
    return []
