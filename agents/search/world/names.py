"""Names of two invented words, such as Bal-den: every word is one token, every name one word.

The words are the same in all worlds, so one vocabulary serves all seeds.
"""

from itertools import product

from loomax.agents.search.world.config import NAME_WORDS

ONSETS = ("b", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z")
VOWELS = ("a", "e", "i", "o", "u")
FIRST = tuple(f"{on.upper()}{vowel}{end}" for on, vowel, end in product(ONSETS, VOWELS, "lr"))
LAST = tuple(f"-{on}{vowel}{end}" for on, vowel, end in product(ONSETS, VOWELS, "ns"))


def name_of(number: int) -> str:
    """The name with a number from 0 to MOST_ENTITIES - 1."""
    first, last = divmod(number, NAME_WORDS)
    return FIRST[first] + LAST[last]
