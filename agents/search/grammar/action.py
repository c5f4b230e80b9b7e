"""What a model's output means: reasoning, tool calls, an answer, or a named fault."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Fault = Literal[
    "no_action",
    "unclosed_tag",
    "unexpected_tag",
    "nested_tag",
    "forged_observation",
    "empty_query",
    "empty_answer",
    "too_long",
    "bad_chunk",
    "bad_json",
    "unknown_tool",
    "missing_argument",
    "wrong_argument",
    "cut_off",
]


@dataclass(frozen=True)
class Reasoning:
    """Text that has no effect outside of the model."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """A call to run.

    Args:
        id: by which the model knows the call, where its grammar has one.
    """

    tool: str
    arguments: Mapping[str, Any]
    id: str = ""


@dataclass(frozen=True)
class Answer:
    """The end of a run."""

    text: str


@dataclass(frozen=True)
class Malformed:
    """Output that is no action; the model may be told so and go on.

    Args:
        id: of the call that is at fault, where the grammar has one.
    """

    fault: Fault
    detail: str
    id: str = ""


Event = Reasoning | ToolCall | Answer | Malformed
