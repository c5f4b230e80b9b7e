"""Tools, calls of them and their outcomes."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from loomax.agents.search.actions.budget import Budget
from loomax.agents.search.actions.config import SAFETY, Safety, ToolConfig

Status = Literal[
    "ok",
    "timeout",
    "rate_limited",
    "malformed",
    "error",
    "circuit_open",
    "rejected",
    "unsafe",
    "budget",
    "unknown_tool",
    "closed",
]
Source = Literal["", "run", "shared", "cache"]


def no_version() -> str:
    """For tools whose results depend on nothing but the arguments."""
    return ""


def accept(value: Any) -> Any:
    """For tools whose results need no check."""
    return value


@dataclass(frozen=True)
class Tool:
    """Something that a model can call.

    Args:
        run: arguments to result. It may raise what `loomax.agents.search.errors` names.
        safety: only "read_only" tools are speculated, shared and cached.
        version: of the data that results come from; part of the key of a call.
        check: gives the result back, or raises `MalformedOutput` or ValueError.

    Raises:
        ValueError: there is no such safety class.
    """

    name: str
    run: Callable[[Mapping[str, Any]], Awaitable[Any]]
    safety: Safety = "effect"
    config: ToolConfig = ToolConfig()
    version: Callable[[], str] = no_version
    check: Callable[[Any], Any] = accept

    def __post_init__(self):
        if self.safety not in SAFETY:
            raise ValueError(f"{self.name} has safety {self.safety!r}; take one of {SAFETY}")


@dataclass(frozen=True)
class Call:
    """One call.

    Args:
        request: who calls, for the log.
        speculative: guessed ahead; the result may never be used.
        budget: of the request; None is no limit.
    """

    tool: str
    arguments: Mapping[str, Any]
    request: str = ""
    speculative: bool = False
    budget: Budget | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Outcome:
    """What came of a call. Only a cancelled call has none.

    Args:
        value: the tool's result if `status` is "ok".
        detail: why there is none, for people.
        source: "run" by this call, "shared" with one that was on its way, or from the "cache".
        attempts: of the execution.
        seconds: that the caller waited.
    """

    status: Status
    value: Any = None
    detail: str = ""
    source: Source = ""
    attempts: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == "ok"
