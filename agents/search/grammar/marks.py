"""Text that others wrote must not hold the marks that tell who speaks."""

from collections.abc import Collection


def without(text: str, marks: Collection[str]) -> str:
    """Text without these marks, also without those that dropping one would form.

    One scan, from left to right: a mark is dropped as soon as it is complete, so what is kept never
    holds one. Of several that end at the same place the longest goes.
    """
    if not any(mark in text for mark in marks):
        return text
    ends, longest = {mark[-1] for mark in marks}, max(map(len, marks))
    kept: list[str] = []
    for letter in text:
        kept.append(letter)
        if letter in ends:
            tail = "".join(kept[-longest:])
            size = max((len(mark) for mark in marks if tail.endswith(mark)), default=0)
            del kept[len(kept) - size :]
    return "".join(kept)
