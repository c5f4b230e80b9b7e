"""The tags of Search-R1 (arXiv 2503.09516): <think>, <search>, <information>, <answer>."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from loomax.agents.search.grammar.action import Answer, Event, Malformed, Reasoning, ToolCall
from loomax.agents.search.grammar.marks import without
from loomax.agents.search.retrieval.document import Document

NAMES = ("think", "search", "information", "answer")
TAG = re.compile(f"</?({'|'.join(NAMES)})>")
TAGS = tuple(f"<{slash}{name}>" for name in NAMES for slash in ("", "/"))
LONGEST_TAG = len("</information>")
STOPS = ("</search>", "</answer>")


@dataclass(frozen=True)
class SearchR1Config:
    """How observations are written, and how long an action may be.

    Args:
        before, after: around an observation.
        document: of one document, with {rank} (from 1), {title} and {text}.
        between: documents, and the parts of an observation.
        nothing: stands for an empty result.
        invalid: the observation after a fault, with {fault} and {detail}.
        most_characters: of a query or an answer.
    """

    before: str = "\n\n<information>"
    after: str = "</information>\n\n"
    document: str = "Doc {rank}(Title: {title}) {text}\n"
    between: str = ""
    nothing: str = "Nothing was found.\n"
    invalid: str = (
        "\nThis is not a valid action ({fault}: {detail}). Put a query between <search> and "
        "</search>, or the final answer between <answer> and </answer>.\n"
    )
    most_characters: int = 4096


class SearchR1Parser:
    """Reads the text of one turn, up to its first action or fault.

    Text outside of tags is ignored, as Search-R1 does.
    """

    def __init__(self, most_characters: int):
        # A block may be followed by the beginning of its closing tag.
        self._most, self._longest = most_characters, most_characters + LONGEST_TAG
        self._held, self._open, self._done = "", "", False

    @property
    def done(self) -> bool:
        return self._done

    def feed(self, piece: str) -> list[Event]:
        """See `Parser`."""
        events: list[Event] = []
        if self._done:
            return events
        # Only the end of what was held can still become a tag.
        start = max(0, len(self._held) - LONGEST_TAG)
        self._held += piece
        while not self._done and (found := TAG.search(self._held, start)):
            inner, self._held = self._held[: found.start()], self._held[found.end() :]
            start = 0
            events += self._tag(found[0], found[1], inner)
            self._done = any(not isinstance(event, Reasoning) for event in events)
        if not self._open:
            self._held = self._held[-LONGEST_TAG:]
        elif not self._done and self._open != "think" and len(self._held) > self._longest:
            events.append(self._too_long())
            self._done = True
        return events

    def finish(self) -> list[Event]:
        """See `Parser`."""
        if self._done:
            return []
        self._done = True
        if self._open:
            return [Malformed("unclosed_tag", f"<{self._open}> was not closed")]
        return [Malformed("no_action", "the turn ended without <search> or <answer>")]

    def _too_long(self) -> Malformed:
        return Malformed("too_long", f"<{self._open}> holds more than {self._most} characters")

    def _tag(self, tag: str, name: str, inner: str) -> list[Event]:
        closing = tag.startswith("</")
        if not self._open:
            if closing:
                return [Malformed("unexpected_tag", f"{tag} closes nothing")]
            if name == "information":
                return [
                    Malformed("forged_observation", "<information> is not written by the model")
                ]
            self._open = name
            return []
        if self._open != "think" and len(inner) > self._most:
            return [self._too_long()]
        if not closing or name != self._open:
            return [Malformed("nested_tag", f"{tag} stands inside <{self._open}>")]
        event = self._block(name, inner)
        self._open = ""
        return [event]

    def _block(self, name: str, inner: str) -> Event:
        text = inner.strip()
        if name == "think":
            return Reasoning(text)
        if name == "search":
            if not text:
                return Malformed("empty_query", "<search> holds no query")
            return ToolCall("search", {"query": text})
        return Answer(text) if text else Malformed("empty_answer", "<answer> holds no answer")


class SearchR1Grammar:
    """Text with tags.

    Args:
        config: how observations look.
    """

    stops = STOPS

    def __init__(self, config: SearchR1Config | None = None):
        self._config = config or SearchR1Config()

    def parser(self) -> SearchR1Parser:
        """A parser for one turn."""
        return SearchR1Parser(self._config.most_characters)

    def observe(self, call: ToolCall, documents: Sequence[Document]) -> str:
        """The observation. Tags within documents are dropped: a text must not act for the model."""
        config = self._config
        shown = [
            config.document.format(rank=rank, title=_plain(found.title), text=_plain(found.text))
            for rank, found in enumerate(documents, start=1)
        ]
        return config.between.join([config.before, *(shown or [config.nothing]), config.after])

    def correct(self, fault: Malformed) -> str:
        """The observation after a fault."""
        return self._config.invalid.format(fault=fault.fault, detail=fault.detail)


def _plain(text: str) -> str:
    """Text without tags, also without those that dropping one would form."""
    return without(text, TAGS)
