"""One tool call, `{"name": ..., "arguments": {...}}`, read while it is written."""

import json
import re

from loomax.agents.search.grammar.untrusted import whole
from loomax.agents.search.loop.chat_codec import NAME
from loomax.agents.server.reader import CallArguments, CallStart, Content, Delta

# Within so many characters a call's head is looked for; it is read again with each piece.
LONGEST_HEAD = 1024
HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"arguments"\s*:\s*(?=\{)')


class CallReader:
    """Gives the arguments on as they come, if the name comes first; else when the call ends."""

    def __init__(self, index: int):
        self._index, self._held = index, ""
        self._name: str | None = None
        self._depth, self._quoted, self._escaped, self._whole = 0, False, False, False

    def feed(self, text: str) -> list[Delta]:
        """What this text adds."""
        self._held += text
        deltas: list[Delta] = []
        if self._name is None:
            head = HEAD.match(self._held, 0, LONGEST_HEAD)
            if head is None:
                return []
            self._name, self._held = head[1], self._held[head.end() :]
            deltas.append(CallStart(self._index, head[1]))
        shown, self._held = self._scan(self._held), ""
        return [*deltas, CallArguments(self._index, shown)] if shown else deltas

    def close(self) -> tuple[list[Delta], bool]:
        """What the end of the call adds, and whether it was one."""
        if self._name is not None:
            return [], True
        name, arguments = _read(self._held)
        if not name:
            # For people to see: there is nothing that could be called.
            return [Content(f"<tool_call>{self._held}</tool_call>")], False
        return [CallStart(self._index, name), CallArguments(self._index, arguments)], True

    def cut(self) -> list[Delta]:
        """What is left when the answer ends within the call."""
        return [] if self._name is not None else [Content(f"<tool_call>{self._held}")]

    def _scan(self, text: str) -> str:
        """The part of the text that belongs to the arguments."""
        for place, letter in enumerate(text):
            if self._whole:
                return text[:place]
            if self._quoted:
                self._quoted = self._escaped or letter != '"'
                self._escaped = letter == "\\" and not self._escaped
            elif letter == '"':
                self._quoted = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                self._whole = self._depth == 0
        return text


def _read(text: str) -> tuple[str, str]:
    """Name and arguments of a call; arguments that are not JSON are handed on as they are."""
    try:
        call = json.loads(text)
        name, arguments = call["name"], call.get("arguments", {})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        found = NAME.search(text)
        return (found[1], text.strip()) if found else ("", "")
    if not isinstance(name, str):
        return "", ""
    if isinstance(arguments, str):
        return whole(name), whole(arguments)
    written = json.dumps(arguments, ensure_ascii=False)
    # Half of a surrogate pair stays escaped, as the model wrote it.
    return whole(name), written if whole(written) == written else json.dumps(arguments)
