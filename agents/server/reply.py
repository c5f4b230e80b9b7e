"""The bytes of an answer: one JSON object, or a stream of events (SSE)."""

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from loomax.agents.search.json_text import write_json
from loomax.agents.server.answer import Part
from loomax.agents.server.answers import answers
from loomax.agents.server.asked import Asked
from loomax.agents.server.errors import ApiError
from loomax.agents.server.metrics import Meter
from loomax.agents.server.served import Served

DONE = b"data: [DONE]\n\n"


class Reply:
    """One request's answer.

    Args:
        wire: the endpoint's JSON, `chat_wire` or `completion_wire`.
        model: its name.
    """

    def __init__(self, wire: Any, asked: Asked, served: Served, model: str, meter: Meter):
        self._wire, self._asked, self._served, self._meter = wire, asked, served, meter
        self._head = {
            "id": f"{wire.PREFIX}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
        }

    async def whole(self) -> AsyncGenerator[bytes, None]:
        """The answer as one object."""
        parts: list[list[Part]] = [[] for _ in self._asked.samples]
        async with aclosing(self._parts()) as arriving:
            async for batch in arriving:
                for index, part in batch:
                    parts[index].append(part)
        logprobs = self._asked.logprobs
        choices = [
            self._wire.whole_choice(index, joined(held), logprobs=logprobs)
            for index, held in enumerate(parts)
        ]
        yield write_json(self._body(self._wire.OBJECT, choices) | {"usage": self._usage()})

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The answer as events; what came in one step is one event a sample."""
        idle = {"usage": None} if self._asked.usage else {}
        begun = False
        async with aclosing(self._parts()) as arriving:
            async for batch in arriving:
                choices = self._choices(batch)
                if not begun:
                    firsts = map(self._wire.first_choice, range(len(self._asked.samples)))
                    choices, begun = [*filter(None, firsts), *choices], True
                for choice in choices:
                    yield _event(self._body(self._wire.CHUNK, [choice]) | idle)
        if self._asked.usage:
            yield _event(self._body(self._wire.CHUNK, []) | {"usage": self._usage()})
        yield DONE

    def _choices(self, batch: Sequence[tuple[int, Part]]) -> list[dict[str, Any]]:
        """What there is to tell of a step: text may be held back."""
        logprobs = self._asked.logprobs
        return [
            self._wire.chunk_choice(index, part, logprobs=logprobs)
            for index, part in _by_sample(batch).items()
            if part.deltas or part.finish or (part.scored and logprobs)
        ]

    async def _parts(self) -> AsyncGenerator[list[tuple[int, Part]], None]:
        """The samples' parts, counted."""
        self._meter.begin(self._asked.prompt_tokens)
        async with aclosing(answers(self._asked, self._served)) as arriving:
            async for batch in arriving:
                self._meter.add(sum(part.tokens for _, part in batch))
                yield batch

    def _body(self, kind: str, choices: list) -> dict[str, Any]:
        return {**self._head, "object": kind, "choices": choices}

    def _usage(self) -> dict[str, int]:
        prompt, completion = self._asked.prompt_tokens, self._meter.tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }


def joined(parts: Sequence[Part]) -> Part:
    """Neighbouring parts of one sample as one."""
    return Part(
        tuple(delta for part in parts for delta in part.deltas),
        tuple(each for part in parts for each in part.scored),
        parts[-1].finish if parts else None,
        parts[-1].stop if parts else None,
    )


def failure(error: ApiError) -> bytes:
    """The event that ends a stream which cannot go on."""
    return _event(error.body())


def _by_sample(batch: Sequence[tuple[int, Part]]) -> dict[int, Part]:
    parts: dict[int, list[Part]] = {}
    for index, part in batch:
        parts.setdefault(index, []).append(part)
    return {index: joined(held) for index, held in parts.items()}


def _event(body: object) -> bytes:
    return b"data: " + write_json(body) + b"\n\n"
