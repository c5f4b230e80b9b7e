"""Memory planning."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`loomax.memory.fit`; what plans traces needs no JAX, and does not import it."""
    if name != "fit":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from loomax.memory.forms.fit import fit

    return fit
