"""What `POST /v1/completions` answers, whole or in chunks."""

from collections.abc import Sequence
from typing import Any

from loomax.agents.server.answer import Part, Scored, finite
from loomax.agents.server.reader import Content

PREFIX, OBJECT, CHUNK = "cmpl", "text_completion", "text_completion"


def first_choice(index: int) -> None:
    """There is nothing before the first text."""
    del index


def chunk_choice(index: int, part: Part, *, logprobs: bool) -> dict[str, Any]:
    """A chunk of an answer, or all of it."""
    text = "".join(delta.text for delta in part.deltas if isinstance(delta, Content))
    choice = {
        "index": index,
        "text": text,
        "logprobs": _logprobs(part.scored) if logprobs else None,
        "finish_reason": part.finish,
    }
    return choice | ({"stop_reason": part.stop} if part.finish else {})


def whole_choice(index: int, part: Part, *, logprobs: bool) -> dict[str, Any]:
    """A whole answer."""
    return chunk_choice(index, part, logprobs=logprobs)


def _logprobs(scored: Sequence[Scored]) -> dict[str, Any]:
    return {
        "tokens": [each.held.decode("utf-8", "replace") for each in scored],
        "token_logprobs": [finite(each.logprob) for each in scored],
        "top_logprobs": None,
        "text_offset": [each.offset for each in scored],
    }
