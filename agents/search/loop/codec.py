"""Between token ids and what a grammar reads and writes."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Reader(Protocol):
    """Turns the tokens of one turn into pieces for a parser.

    How the tokens are handed over, one by one or many at once, changes nothing.
    """

    def feed(self, tokens: Sequence[int]) -> Sequence[Any]:
        """Pieces that these tokens complete."""
        ...

    def finish(self) -> Sequence[Any]:
        """Pieces that the end of the output completes."""
        ...


@runtime_checkable
class Codec(Protocol):
    """One way to put a conversation into tokens. Tokens are only ever added to a run."""

    @property
    def opening(self) -> tuple[int, ...]:
        """What is forced upon a draft, so that it acts without reasoning."""
        ...

    @property
    def closing(self) -> tuple[int, ...]:
        """What still ends an observation that was cut; empty where none may be cut."""
        ...

    @property
    def question(self) -> tuple[int, ...]:
        """What asks the model to score the draft before it; empty if it cannot."""
        ...

    def score(self, token: int) -> float:
        """The confidence, 0 to 1, that the token after `question` stands for."""
        ...

    def prompt(self, question: str) -> tuple[int, ...]:
        """The tokens that a run starts with."""
        ...

    def observation(self, shown: Sequence[Any]) -> tuple[int, ...]:
        """The tokens of what a grammar's `observe` and `correct` gave after one turn.

        Raises:
            ValueError: there are none for it.
        """
        ...

    def reader(self) -> Reader:
        """A reader for one turn."""
        ...


@runtime_checkable
class Words(Protocol):
    """A tokenizer that tells what each token adds to a text."""

    def ids(self, text: str) -> list[int]: ...

    def pieces(self, ids: Iterable[int]) -> list[str]: ...


class TextReader:
    """Tokens are pieces of text."""

    def __init__(self, words: Words):
        self.words = words

    def feed(self, tokens: Sequence[int]) -> Sequence[str]:
        """See `Reader`."""
        return ("".join(self.words.pieces(tokens)),)

    def finish(self) -> Sequence[str]:
        """See `Reader`."""
        return ()


class TextCodec:
    """Plain text, as in Search-R1.

    Args:
        words: the tokenizer.
        begin: tokens before the question.
        opening: text that a draft starts with.
        closing: text that ends an observation.
        question: text after a draft that asks for a score from 1 to 5; "" if there is none.
    """

    def __init__(
        self,
        words: Words,
        *,
        begin: Sequence[int] = (),
        opening: str = "<search>",
        closing: str = "</information>",
        question: str = "",
    ):
        self.words, self._begin = words, tuple(begin)
        self.opening, self.closing = tuple(words.ids(opening)), tuple(words.ids(closing))
        self.question = tuple(words.ids(question)) if question else ()

    def score(self, token: int) -> float:
        """See `Codec`: 1 is 0, 5 is 1, and what is no such number is 0."""
        return score_of("".join(self.words.pieces([token])))

    def prompt(self, question: str) -> tuple[int, ...]:
        """See `Codec`."""
        return (*self._begin, *self.words.ids(question))

    def observation(self, shown: Sequence[str]) -> tuple[int, ...]:
        """See `Codec`."""
        return tuple(self.words.ids("".join(shown)))

    def reader(self) -> Reader:
        """See `Codec`."""
        return TextReader(self.words)


def score_of(text: str) -> float:
    """A score from 1 to 5 as a confidence; what is no such score is 0."""
    return (int(text) - 1) / 4 if text.strip() in ("1", "2", "3", "4", "5") else 0.0
