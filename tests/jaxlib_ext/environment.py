"""What processes of these tests start with."""

import os


def without_arena() -> dict[str, str]:
    """The environment less an arena that the tests themselves run under: there is one a process."""
    names = ("LD_PRELOAD", "LOOMAX_ARENA")
    return {name: value for name, value in os.environ.items() if not name.startswith(names)}
