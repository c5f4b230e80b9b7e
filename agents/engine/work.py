"""A planned step: plain data between the scheduler and the device."""

from dataclasses import dataclass, field

from loomax.agents.engine.request import EngineRequest


@dataclass(frozen=True)
class Row:
    """One request's part of a call.

    Args:
        start: tokens before these.
        tokens: to compute; in a verified call the last one that is known and guesses behind it.
        pages: of the request, at the time of the plan.
        final: whether the scores behind the last token are asked for.
        room: tokens that a call which guesses may accept at most.
    """

    request: EngineRequest
    slot: int
    start: int
    tokens: tuple[int, ...]
    pages: tuple[int, ...]
    final: bool
    room: int = 1


@dataclass(frozen=True)
class Call:
    """One run of a compiled step.

    Args:
        rows, length: of the bucket. A row of a call with all slots is the slot's.
        verify: whether guesses are verified.
    """

    rows: int
    length: int
    parts: tuple[Row, ...]
    verify: bool = False


@dataclass(frozen=True)
class Work:
    """What a step does, in this order.

    Args:
        saves: snapshot <- slot; restores: slot <- snapshot; copies: page <- page.
    """

    saves: dict[int, int]
    restores: dict[int, int]
    copies: dict[int, int]
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True)
class Result:
    """What one row got: new tokens, and how many of its tokens are computed now."""

    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = field(default=())
    computed: int = 0
