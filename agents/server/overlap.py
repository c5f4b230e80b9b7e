"""Text that may be the beginning of a word whose rest has not come yet."""


def overlap(text: str, word: str) -> int:
    """Characters at the end of `text` with which `word` may begin."""
    sizes = range(min(len(text), len(word) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(word[:size])), 0)
