"""When a buffer that is not in the plan will be freed: learned, or known. Imports no JAX."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


@runtime_checkable
class Predictor(Protocol):
    """Predicts deaths in the plan's time, which goes on from one iteration to the next."""

    def death(self, id: str, now: int) -> int | None:
        """When a buffer that is born now will be free again; None: unknown."""
        ...

    def freed(self, id: str, span: int) -> None:
        """Is told how long a buffer lived."""
        ...


class Learned:
    """The longest life of the same name so far; a name that is new is not predicted.

    Args:
        spans: longest lives that are known already, by name.
    """

    def __init__(self, spans: Mapping[str, int] | None = None):
        self.spans = dict(spans or {})

    def death(self, id: str, now: int) -> int | None:
        """As `Predictor.death`."""
        span = self.spans.get(id)
        return None if span is None else now + span

    def freed(self, id: str, span: int) -> None:
        """As `Predictor.freed`."""
        self.spans[id] = max(span, self.spans.get(id, 0))


class Known:
    """True deaths, which no run knows beforehand: the bound for any predictor.

    Args:
        deaths: times by name; one that is over means the next iteration.
    """

    def __init__(self, deaths: Mapping[str, int]):
        self.deaths = deaths

    def death(self, id: str, now: int) -> int | None:
        """As `Predictor.death`."""
        return self.deaths.get(id)

    def freed(self, id: str, span: int) -> None:
        """As `Predictor.freed`: there is nothing to learn."""
