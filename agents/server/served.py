"""A model as the server knows it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from loomax.agents.search.engine_protocol import Engine
from loomax.agents.server.chat_text import ChatFormat, TemplateFormat
from loomax.agents.server.tokens import Tokens


def no_fault() -> str:
    """For engines that do not break."""
    return ""


@dataclass(frozen=True)
class Served:
    """An engine and what its tokens mean.

    Args:
        begin: tokens before any prompt.
        ends: tokens that end an answer.
        chat: how a chat is written.
        fault: why the engine will take no request any more; "" while it does.
    """

    engine: Engine
    tokens: Tokens
    begin: tuple[int, ...] = ()
    ends: frozenset[int] = frozenset()
    chat: ChatFormat = field(default_factory=TemplateFormat)
    fault: Callable[[], str] = no_fault
