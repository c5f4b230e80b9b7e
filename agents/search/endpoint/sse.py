"""Server-sent events, cut out of bytes as they arrive (WHATWG HTML, 9.2.6).

A line ends at CR, LF or CR LF and nowhere else: JSON may hold U+2028, U+0085 and other characters
at which `str.splitlines` would cut.
"""

import re

from loomax.agents.search.errors import MalformedOutput

END = re.compile(rb"\r\n|\r|\n")
MARK = b"\xef\xbb\xbf"
MOST_BYTES = 16 * 2**20


class EventReader:
    """Reads one stream."""

    def __init__(self):
        self._held, self._data = bytearray(), bytearray()
        self._begun = self._lines = self._after_return = False

    def feed(self, piece: bytes) -> list[str]:
        """The data of the events that these bytes complete.

        Raises:
            MalformedOutput: an event is longer than `MOST_BYTES`.
        """
        # The second half of a line end whose first half came with the last piece.
        skipped = self._after_return and piece.startswith(b"\n")
        if piece:
            self._after_return = piece.endswith(b"\r")
        # Only what is new can end a line.
        searched = len(self._held)
        self._held += piece[skipped:]
        events, start = [], 0
        while found := END.search(self._held, searched):
            events += self._line(bytes(self._held[start : found.start()]))
            start = searched = found.end()
        del self._held[:start]
        if len(self._held) + len(self._data) > MOST_BYTES:
            raise MalformedOutput(f"an event of over {MOST_BYTES} bytes")
        return events

    def _line(self, line: bytes) -> list[str]:
        if not self._begun:
            line, self._begun = line.removeprefix(MARK), True
        if not line:
            data, self._data, self._lines = self._data, bytearray(), False
            return [data.decode("utf-8", "replace")] if data else []
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data += (b"\n" if self._lines else b"") + value.removeprefix(b" ")
            self._lines = True
        return []
