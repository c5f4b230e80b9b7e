"""Documents cut so that an observation fits: each keeps its beginning and its place."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from loomax.agents.search.retrieval.document import Document

# A token that stands for more is rare, and texts far over the limit are not worth counting.
MOST_PER_TOKEN = 64
# Cuts fall between words, unless the word is longer.
LONGEST_WORD = 40
# Below this a document tells nothing: fewer of them are shown.
LEAST = 24


def beginning(text: str, most: int) -> str:
    """At most so many characters of a text, whole words where there are some."""
    if len(text) <= most:
        return text
    head = text[:most]
    if most and not text[most].isspace():
        words = head.rstrip().rsplit(maxsplit=1)
        kept = words[0] if len(words) == 2 else ""
        ends = head[-1].isspace()
        if not ends and (kept or most <= LONGEST_WORD) and len(head) - len(kept) <= LONGEST_WORD:
            return kept
    return head.rstrip()


def cut(document: Document, most: int) -> Document:
    """The first `most` characters of title and text."""
    title = beginning(document.title, most)
    return replace(document, title=title, text=beginning(document.text, most - len(title)))


def fit(
    make: Callable[[Callable[[Sequence[Document]], list[Document]]], Sequence[int]],
    found: Sequence[Sequence[Document]],
    most: int,
) -> tuple[int, ...] | None:
    """The largest observation of at most `most` tokens; None if none is small enough.

    All documents are given the same room, so short ones stay whole. When there is too little of it
    for all of them, only the first ones are shown.

    Args:
        make: tokens of the observation in which a list of documents has become what is shown.
        found: the documents of each call.

    Raises:
        ValueError: from `make`.
    """

    def made(room: int, count: int) -> tuple[int, ...]:
        return tuple(make(lambda held: [cut(document, room) for document in held[:count]]))

    sizes = [len(each.title) + len(each.text) for held in found for each in held]
    longest, count = max(sizes, default=0), max(map(len, found), default=0)
    most_room = min(longest, MOST_PER_TOKEN * most)
    whole = made(most_room, count)
    if len(whole) <= most:
        return whole
    while count:
        room, tokens = _largest(lambda room, count=count: made(room, count), most_room, most)
        if tokens and (room >= LEAST or count == 1):
            return tokens
        count //= 2
    bare = made(0, 0)
    return bare if len(bare) <= most else None


def _largest(
    make: Callable[[int], tuple[int, ...]], longest: int, most: int
) -> tuple[int, tuple[int, ...]]:
    """The most characters with which an observation fits, and its tokens; none if it never does."""
    least, best = 0, ()
    while least <= longest:
        room = (least + longest) // 2
        tokens = make(room)
        if len(tokens) <= most:
            best, least = tokens, room + 1
        else:
            longest = room - 1
    return least - 1, best
