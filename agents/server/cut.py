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
        self._longest = max(map(len, stops), default=0)

    def feed(self, ids: Sequence[int]) -> str:
        """The text that these tokens add; tokens after the end are not read."""
        for token in ids:
            if self.reason:
                break
            self.count += 1
            if token in self._ends:
                self.reason = "stop"
                break
            before = len(self._held)
            self._held += self._decoder.feed(self._tokens.bytes_of(token))
            # A stop string that was not there before ends in what is new.
            self._look(max(0, before - self._longest + 1))
            if self.reason is None and self.count >= self._most:
                self.reason = "length"
        return self._release()

    def finish(self) -> str:
        """The text that the end of the engine's output adds."""
        if self.reason is None:
            self.reason = "length" if self.count >= self._most else "stop"
            return self._release()
        return ""

    def _look(self, start: int) -> None:
        """Ends the text before the first stop string from `start` on."""
        found = [(self._held.find(stop, start), stop) for stop in self._stops]
        found = [(place, stop) for place, stop in found if place >= 0]
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
