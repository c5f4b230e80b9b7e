"""The text of one sample, up to where it ends."""

from collections.abc import Collection, Sequence
from typing import Literal

from loomax.agents.server.overlap import overlap
from loomax.agents.server.tokens import Decoder, Tokens

Reason = Literal["stop", "length"]


class Cut:
    """Reads the tokens of one sample.

    Text that may yet turn out to be a stop string is held back; a stop string is never shown.

    Args:
        ends: tokens that end the text and are not part of it.
        stops: strings that do.
        most: tokens at most.
    """

    def __init__(self, tokens: Tokens, ends: Collection[int], stops: Sequence[str], most: int):
        self.reason: Reason | None = None
        self.stop: str | None = None
        self.count = 0
        self._tokens, self._ends, self._stops, self._most = tokens, ends, stops, most
        self._decoder, self._held = Decoder(), ""

    def feed(self, ids: Sequence[int]) -> str:
        """The text that these tokens add; tokens after the end are not read."""
        for token in ids:
            if self.reason:
                break
            self.count += 1
            if token in self._ends:
                self.reason = "stop"
                break
            self._held += self._decoder.feed(self._tokens.bytes_of(token))
            self._look()
            if self.reason is None and self.count >= self._most:
                self.reason = "length"
        return self._release()

    def finish(self) -> str:
        """The text that the end of the engine's output adds."""
        if self.reason is None:
            self.reason = "length" if self.count >= self._most else "stop"
            return self._release()
        return ""

    def _look(self) -> None:
        """Ends the text before the first stop string."""
        found = [(self._held.find(stop), stop) for stop in self._stops if stop in self._held]
        if found:
            place, self.stop = min(found)
            self._held, self.reason = self._held[:place], "stop"

    def _release(self) -> str:
        if self.reason and self.stop is None:
            self._held += self._decoder.finish()
        kept = 0 if self.reason else max((overlap(self._held, s) for s in self._stops), default=0)
        place = len(self._held) - kept
        shown, self._held = self._held[:place], self._held[place:]
        return shown
