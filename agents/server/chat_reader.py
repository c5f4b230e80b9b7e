"""The answer of a chat model: content, <think> and <tool_call>, as deltas."""

from typing import Literal

from loomax.agents.server.call_reader import CallReader
from loomax.agents.server.overlap import overlap
from loomax.agents.server.reader import Content, Delta, Thought

Mode = Literal["content", "think", "call"]


class ChatReader:
    """Splits an answer at its tags.

    Args:
        calls: whether calls are read; without, their text is content.
    """

    def __init__(self, *, calls: bool):
        self.calls = 0
        self._reads_calls = calls
        self._mode: Mode = "content"
        self._held, self._fresh = "", True
        self._call = CallReader(0)

    def feed(self, text: str) -> list[Delta]:
        """See `OutputReader`."""
        self._held += text
        deltas: list[Delta] = []
        while found := self._next_tag():
            place, tag = found
            before, self._held = self._held[:place], self._held[place + len(tag) :]
            deltas += [*self._emit(before), *self._enter(tag)]
        kept = max(overlap(self._held, tag) for tag in self._tags())
        place = len(self._held) - kept
        shown, self._held = self._held[:place], self._held[place:]
        return deltas + self._emit(shown)

    def finish(self) -> list[Delta]:
        """See `OutputReader`."""
        shown, self._held = self._held, ""
        deltas = self._emit(shown)
        return deltas + self._call.cut() if self._mode == "call" else deltas

    def _tags(self) -> tuple[str, ...]:
        """The tags that mean something here."""
        if self._mode == "think":
            return ("</think>",)
        if self._mode == "call":
            return ("</tool_call>",)
        return ("<think>", "<tool_call>") if self._reads_calls else ("<think>",)

    def _next_tag(self) -> tuple[int, str] | None:
        tags = [(self._held.find(tag), tag) for tag in self._tags() if tag in self._held]
        return min(tags, default=None)

    def _enter(self, tag: str) -> list[Delta]:
        deltas: list[Delta] = []
        if tag == "</tool_call>":
            deltas, called = self._call.close()
            self.calls += called
        if tag == "<tool_call>":
            self._call = CallReader(self.calls)
        modes: dict[str, Mode] = {"<think>": "think", "<tool_call>": "call"}
        self._mode, self._fresh = modes.get(tag, "content"), True
        return deltas

    def _emit(self, text: str) -> list[Delta]:
        if self._mode == "call":
            return self._call.feed(text)
        # Space at the beginning of a part stands between tags and says nothing.
        text = text.lstrip() if self._fresh else text
        if not text:
            return []
        self._fresh = False
        return [Thought(text) if self._mode == "think" else Content(text)]
