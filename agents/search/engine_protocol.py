"""What a search agent needs of an inference engine; imports no model and no JAX.

A request owns the pages of its tokens from `submit` or `fork` until `abort`, also after its last
token: so the pages of a turn stay while its tool call is pending.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Kind = Literal["draft", "score", "main", "background"]
# From the end of the prompt, or from behind the last token.
Place = Literal["prompt", "end"]


class EngineError(Exception):
    """The engine gave a request up: no pages, a prompt over the limit, a preempted draft."""


@dataclass(frozen=True)
class Sampling:
    """How a request is sampled.

    Args:
        most: tokens that are generated at most.
        stops: strings that end the output; the token that completes one is the last one.
        seed: same tokens, seed and sample: same output, whatever else runs.
        sample: number among several that are drawn for one prompt.

    Raises:
        ValueError: `most` or the temperature is out of range.
    """

    most: int
    temperature: float = 0.0
    stops: tuple[str, ...] = ()
    seed: int = 0
    sample: int = 0

    def __post_init__(self):
        if self.most < 1 or not self.temperature >= 0:
            raise ValueError(
                f"most is {self.most}, temperature {self.temperature}: give at least 1 token and "
                "a temperature of 0 or above"
            )


@dataclass(frozen=True)
class Piece:
    """Tokens that arrive together.

    Args:
        logprobs: natural logarithm of the probability of each token.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]

    def __post_init__(self):
        if len(self.tokens) != len(self.logprobs):
            raise ValueError(
                f"{len(self.tokens)} tokens have {len(self.logprobs)} log-probabilities; one each"
            )


@dataclass(frozen=True)
class Load:
    """How busy an engine is.

    Args:
        running: requests in slots, `drafts` of them are drafts.
        free_pages: of the KV cache.
        tokens_per_s: generated of late, all requests together.
    """

    running: int
    waiting: int
    slots: int
    free_pages: int
    tokens_per_s: float
    drafts: int = 0


@dataclass(frozen=True)
class StepRecord:
    """A line of the engine's step log.

    Args:
        decoding: requests that got a token.
        prefilled: prompt tokens.
        seconds: of one step.
        count: steps in a row that were like this one.
    """

    decoding: int
    prefilled: int
    seconds: float
    count: int = 1


@runtime_checkable
class Request(Protocol):
    """One request; iterating over it gives what it generates.

    Raises:
        EngineError: from the iteration, when the engine gives the request up.
    """

    def __aiter__(self) -> AsyncGenerator[Piece, None]: ...


@runtime_checkable
class Engine(Protocol):
    """Generates tokens for many requests at once."""

    async def submit(
        self,
        tokens: Sequence[int],
        sampling: Sampling,
        *,
        kind: Kind = "main",
        parent: Request | None = None,
    ) -> Request:
        """A request for what follows `tokens`.

        Args:
            kind: its class in the queue.
            parent: a request that still has its pages; those of the tokens with which both begin
                are shared.

        Raises:
            EngineError: the engine does not take it. If this call is cancelled nothing is left.
        """
        ...

    async def fork(
        self,
        request: Request,
        forced: Sequence[int],
        sampling: Sampling,
        *,
        at: Place = "prompt",
        kind: Kind = "draft",
    ) -> Request:
        """A request that shares the pages of another one, then reads `forced`, then generates.

        Raises:
            EngineError: see `submit`.
        """
        ...

    def halt(self, request: Request) -> None:
        """Lets a request generate no more; it keeps its pages. Returns at once."""
        ...

    def abort(self, request: Request) -> None:
        """Ends a request and gives its pages up. Returns at once; twice is once."""
        ...

    def load(self) -> Load:
        """How busy the engine is."""
        ...

    def watch(self, listen: Callable[[StepRecord], None]) -> None:
        """Hands every further step to `listen`, which must neither block nor raise."""
        ...
