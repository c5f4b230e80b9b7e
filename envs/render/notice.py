"""Words to the user that need saying only once."""

import functools
import sys


@functools.cache
def say_once(text: str) -> None:
    """Prints a line to stderr the first time that it comes up in this process."""
    print(text, file=sys.stderr, flush=True)
