"""One sample of a request from tokens to what the client reads."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from loomax.agents.search.engine_protocol import Piece
from loomax.agents.server.cut import Cut
from loomax.agents.server.reader import (
    CallArguments,
    CallStart,
    Delta,
    OutputReader,
)
from loomax.agents.server.tokens import Decoder, Tokens

Finish = Literal["stop", "length", "tool_calls"]


# What OpenAI's API tells for the logarithm of 0, which JSON does not have.
UNLIKELY = -9999.0


@dataclass(frozen=True)
class Scored:
    """A token and the natural logarithm of its probability.

    Args:
        held: what it stands for.
        offset: characters of the answer before it.
    """

    held: bytes
    logprob: float
    offset: int


@dataclass(frozen=True)
class Part:
    """What one step added to a sample.

    Args:
        finish: why the sample ended, if it did.
        stop: the string that ended it.
    """

    deltas: tuple[Delta, ...]
    scored: tuple[Scored, ...]
    finish: Finish | None = None
    stop: str | None = None

    @property
    def tokens(self) -> int:
        """How many were generated."""
        return len(self.scored)


class Answer:
    """One sample while it is generated.

    Args:
        forced: text that the answer begins with.
        single: whether it ends with its first call.
    """

    def __init__(
        self,
        tokens: Tokens,
        ends: Collection[int],
        stops: Sequence[str],
        most: int,
        reader: OutputReader,
        *,
        forced: str = "",
        single: bool = False,
    ):
        self._tokens, self._reader, self._single = tokens, reader, single
        self._cut = Cut(tokens, ends, stops, most)
        self._before = tuple(reader.feed(forced))
        self._decoder, self._offset = Decoder(), 0
        self._finish: Finish | None = None

    @property
    def finish(self) -> Finish | None:
        """Why it ended; None while it has not."""
        return self._finish

    def feed(self, piece: Piece) -> Part:
        """What these tokens add."""
        before = self._cut.count
        deltas = self._read(self._cut.feed(piece.tokens))
        used = self._cut.count - before
        pairs = zip(piece.tokens[:used], piece.logprobs[:used], strict=True)
        scored = tuple(self._score(token, logprob) for token, logprob in pairs)
        if self._single and self._reader.calls:
            self._finish = "tool_calls"
            return Part(_first_call(deltas), scored, self._finish)
        return self._ended(deltas, scored) if self._cut.reason else Part(deltas, scored)

    def close(self) -> Part:
        """What the end of the engine's output adds."""
        return self._ended(self._read(self._cut.finish()), ())

    def _score(self, token: int, logprob: float) -> Scored:
        scored = Scored(self._tokens.bytes_of(token), logprob, self._offset)
        self._offset += len(self._decoder.feed(scored.held))
        return scored

    def _read(self, text: str) -> tuple[Delta, ...]:
        before, self._before = self._before, ()
        return (*before, *self._reader.feed(text))

    def _ended(self, deltas: tuple[Delta, ...], scored: tuple[Scored, ...]) -> Part:
        deltas = (*deltas, *self._reader.finish())
        called = self._reader.calls and self._cut.reason == "stop"
        self._finish = "tool_calls" if called else self._cut.reason
        return Part(deltas, scored, self._finish, self._cut.stop)


def finite(logprob: float) -> float:
    """A log-probability as JSON has it."""
    return max(logprob, UNLIKELY)


def _first_call(deltas: Sequence[Delta]) -> tuple[Delta, ...]:
    """What comes before the end of the first call."""
    first = [isinstance(delta, CallStart | CallArguments) and delta.index == 0 for delta in deltas]
    last = max((place for place, true in enumerate(first) if true), default=-1)
    return tuple(deltas[: last + 1])
