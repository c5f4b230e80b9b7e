"""Who guesses: the host by looking up, or the device by decoding ahead."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from loomax.agents.engine.config import SpeculativeConfig
from loomax.agents.engine.request import EngineRequest
from loomax.agents.engine.speculative.ngram import Lookup


class Guesser:
    """Guesses for the rows of a step."""

    def __init__(self, config: SpeculativeConfig):
        self.config = config
        self._lookups: WeakKeyDictionary[EngineRequest, Lookup] = WeakKeyDictionary()

    def guess(self, request: EngineRequest, most: int) -> tuple[Sequence[int], int]:
        """Up to `most` tokens, and how many; the device makes those that are only counted."""
        if self.config.drafter == "none" or most < 1:
            return (), 0
        if self.config.drafter != "ngram":
            return (), most
        lookup = self._lookups.get(request)
        if lookup is None:
            lookup = self._lookups[request] = Lookup(*self.config.ngram)
        found = lookup.guess(request.tokens, most)
        return found, len(found)
