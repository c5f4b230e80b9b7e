"""Tool calls of chat models that write them as text, for the OpenAI grammar.

The form is that of the Hermes function calling format, which Qwen's models write too:
reasoning in <think>, a call as JSON in <tool_call>, anything else is content.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loomax.agents.search.loop.codec import Words, score_of

CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)
NAME = re.compile(r'"name"\s*:\s*"([^"]*)"')


@dataclass(frozen=True)
class ChatTemplate:
    """The text around messages.

    Args:
        system, user, tool: before the content of such a message.
        end: after any message.
        assistant: before what the model writes.
    """

    system: str = "<|im_start|>system\n"
    user: str = "<|im_start|>user\n"
    tool: str = "<|im_start|>tool\n"
    end: str = "<|im_end|>\n"
    assistant: str = "<|im_start|>assistant\n"


class ChatReader:
    """Gives one chunk a turn, when the turn is complete: at its end or after its first call."""

    def __init__(self, words: Words, end: int):
        self._words, self._end = words, end
        self._text, self._done = "", False

    def feed(self, tokens: Sequence[int]) -> Sequence[dict[str, Any]]:
        """See `Reader`."""
        for token in () if self._done else tokens:
            if token == self._end:
                return self._finish("stop")
            self._text += "".join(self._words.pieces([token]))
            if "</tool_call>" in self._text[-32:] and CALL.search(self._text):
                return self._finish("tool_calls")
        return ()

    def finish(self) -> Sequence[dict[str, Any]]:
        """See `Reader`."""
        return () if self._done else self._finish("length")

    def _finish(self, reason: str) -> Sequence[dict[str, Any]]:
        self._done = True
        delta: dict[str, Any] = {"reasoning_content": "".join(THINK.findall(self._text))}
        rest = THINK.sub("", self._text)
        if call := CALL.search(rest):
            delta["tool_calls"] = [{"index": 0, "id": "call", "function": _function(call[1])}]
        else:
            delta["content"] = rest
        return ({"choices": [{"delta": delta, "finish_reason": reason}]},)


def _function(text: str) -> dict[str, str]:
    """Name and arguments; arguments that are not JSON are handed on for the parser to refuse."""
    try:
        call = json.loads(text)
        given = call.get("arguments", {})
        # Some models write the arguments as OpenAI's API has them: as a string of JSON.
        arguments = given if isinstance(given, str) else json.dumps(given)
        return {"name": call["name"], "arguments": arguments}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        name = NAME.search(text)
        return {"name": name[1] if name else "", "arguments": text.strip()}


class ChatCodec:
    """A conversation in a chat template.

    Args:
        words: the tokenizer.
        end: the token that ends a turn.
        system: text before the first message, such as the tools and how to call them.
        question: text after a draft that asks for a score from 1 to 5; "" if there is none.
    """

    def __init__(
        self,
        words: Words,
        end: int,
        *,
        template: ChatTemplate | None = None,
        system: str = "",
        question: str = "",
    ):
        self.words, self._end, self._system = words, end, system
        self._template = template or ChatTemplate()
        self.opening = tuple(words.ids("<tool_call>\n"))
        self.closing = tuple(words.ids(self._template.end + self._template.assistant))
        self.question = tuple(words.ids(question)) if question else ()

    def score(self, token: int) -> float:
        """See `Codec`: 1 is 0, 5 is 1, and what is no such number is 0."""
        return score_of("".join(self.words.pieces([token])))

    def prompt(self, question: str) -> tuple[int, ...]:
        """See `Codec`."""
        asked = self._message({"role": "user", "content": question})
        return tuple(self.words.ids(self._system + asked + self._template.assistant))

    def observation(self, shown: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        """See `Codec`. Ends the model's message first, since a call may have cut it short."""
        messages = "".join(map(self._message, shown))
        return tuple(self.words.ids(self._template.end + messages + self._template.assistant))

    def reader(self) -> ChatReader:
        """See `Codec`."""
        return ChatReader(self.words, self._end)

    def _message(self, message: Mapping[str, Any]) -> str:
        before = self._template.tool if message["role"] == "tool" else self._template.user
        return f"{before}{message['content']}{self._template.end}"
