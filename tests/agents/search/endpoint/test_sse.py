"""Events are cut at CR, LF and CR LF alone, wherever the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomax.agents.search.endpoint.sse import MOST_BYTES, EventReader
from loomax.agents.search.errors import MalformedOutput

# Everything at which `str.splitlines` cuts, besides CR and LF.
OTHERS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


def read(*pieces):
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)]


def reference(text):
    """The events of a whole stream, by the letter of the specification."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    events, data = [], []
    # What follows the last line end is not complete.
    for line in lines[:-1]:
        if line == "":
            joined = "\n".join(data)
            events += [joined] if joined else []
            data = []
        elif line == "data" or line.startswith("data:"):
            value = line[5:]
            data.append(value[1:] if value.startswith(" ") else value)
    return events


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_other_line_separators_belong_to_the_data(end):
    stream = f": hello{end}data: a{OTHERS}b{end}id: 1{end}{end}data:c{end}data: d{end}{end}"
    assert read(stream.encode()) == [f"a{OTHERS}b", "c\nd"]


@given(
    st.lists(st.sampled_from(["data", ":", "x", "\r", "\n", "\r\n", " ", "\n\n", "\u2028", "\x85",
                              "data: y", "\ufeff"]), max_size=25),
    st.lists(st.integers(0, 60), max_size=6),
)  # fmt: skip
def test_cuts_change_nothing(parts, cuts):
    stream = "".join(parts)
    raw, ends = stream.encode(), sorted(cuts)
    pieces = [raw[a:b] for a, b in zip([0, *ends], [*ends, None], strict=True)]
    # A CR at the very end may be half of a line end; the specification reads on.
    assert read(*pieces) == reference(stream) == read(*(bytes([byte]) for byte in raw))


def test_what_has_not_ended_is_no_event():
    assert read(b"data: a\n") == [] and read(b"data: a") == []


def test_an_endless_event_is_given_up():
    reader = EventReader()
    with pytest.raises(MalformedOutput, match="an event of over"):
        for _ in range(20):
            reader.feed(b"x" * (MOST_BYTES // 16))
