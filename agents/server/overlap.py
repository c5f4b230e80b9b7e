"""Text that may be the beginning of a word whose rest has not come yet."""


def overlap(text: str, word: str) -> int:
    """Characters at the end of `text` with which `word` may begin."""
    place = text.find(word[0], max(0, len(text) - len(word) + 1))
    while place >= 0 and not word.startswith(text[place:]):
        place = text.find(word[0], place + 1)
    return len(text) - place if place >= 0 else 0
