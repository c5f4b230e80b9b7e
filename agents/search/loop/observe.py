"""What the model gets to read after its turn."""

from collections.abc import Sequence
from typing import Any

from loomax.agents.search.actions.call import Outcome
from loomax.agents.search.grammar.action import Malformed, ToolCall
from loomax.agents.search.grammar.transcript import clip
from loomax.agents.search.loop.session import Session
from loomax.agents.search.retrieval.document import Document, Hit


def observe(
    session: Session,
    actions: Sequence[ToolCall | Malformed],
    outcomes: Sequence[Outcome | None],
) -> None:
    """Adds the observation of a turn to the transcript.

    Args:
        outcomes: one an action; a malformed action has none.
    """
    parts, step = session.parts, session.step
    shown = [
        _shown(session, action, outcome) for action, outcome in zip(actions, outcomes, strict=True)
    ]
    try:
        tokens = parts.codec.observation(shown)
    except ValueError as error:
        # A document that has no tokens; the run goes on as if nothing had been found.
        session.trace.add("failed", step, detail=f"malformed: {error}")
        tokens = parts.codec.observation([_shown(session, action, None) for action in actions])
    tokens = clip(tokens, parts.config.observation, parts.codec.closing)
    session.transcript = session.transcript.add(tokens, "observation")
    session.trace.add("observation", step, tokens=len(tokens))


def documents(value: Any) -> list[Document]:
    """The documents of a tool's result; what is no hit is a document of its own."""
    found = value if isinstance(value, list | tuple) else [value]
    return [_document(each) for each in found]


def _document(value: Any) -> Document:
    if isinstance(value, Hit):
        return value.document
    return value if isinstance(value, Document) else Document("", "", str(value))


def _shown(session: Session, action: ToolCall | Malformed, outcome: Outcome | None) -> Any:
    grammar = session.parts.grammar
    if isinstance(action, Malformed):
        return grammar.correct(action)
    if outcome is not None and outcome.ok:
        return grammar.observe(action, documents(outcome.value))
    if outcome is not None and session.parts.config.failure == "status":
        return grammar.observe(action, [Document("", outcome.status, outcome.detail)])
    return grammar.observe(action, [])
