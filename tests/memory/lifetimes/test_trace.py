"""Traces: the lower bound against counting, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace, blocks, live_bytes


@st.composite
def lifetimes(draw):
    spans = draw(
        st.lists(
            st.tuples(st.integers(-5, 8), st.integers(1, 6), st.integers(0, 40), st.integers(1, 3)),
            max_size=8,
        )
    )
    return tuple(
        Lifetime(str(at), size, birth, birth + length, 2**power)
        for at, (birth, length, size, power) in enumerate(spans)
    )


@given(lifetimes())
def test_the_lower_bound_is_the_most_live_at_any_time(records):
    def live(time):
        padded = [-(-r.size // r.alignment) * r.alignment for r in records]
        return sum(p for p, r in zip(padded, records, strict=True) if r.birth <= time < r.death)

    trace = Trace(records)
    assert trace.lower_bound == max(map(live, range(-6, 16)))
    assert all(live(time) == held for time, held in live_bytes(records))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Lifetime("b", -1, 0, 1), "'b' .record 2.: size is -1"),
        (Lifetime("b", 1, 3, 2), "'b' .record 2.: freed at 2, allocated at 3"),
        (Lifetime("b", 1, 3, 3), "freed at 3, allocated at 3"),
        (Lifetime("a", 1, 3, 4), "name is taken by trace: buffer 'a' .record 1."),
        (Lifetime("b", 1, 3, 4, alignment=0), "alignment is 0"),
        (Lifetime("b", 2**61, 3, 4), "over 2..60"),
        (Lifetime("b", 1, 1, 4, alias="x"), "lives at the same time as .* 'a' .*same alias 'x'"),
    ],
)
def test_broken_records_are_refused(record, message):
    with pytest.raises(ValueError, match=message):
        Trace((Lifetime("a", 4, 0, 2, alias="x"), record))


def test_an_alias_group_is_one_block():
    first = Lifetime("a", 5, 0, 2, 4, alias="x")
    second = Lifetime("b", 9, 2, 6, 8, alias="x")
    other = Lifetime("x", 3, 4, 5)
    assert blocks([first, other, second]) == [Lifetime("a", 9, 0, 6, 8, alias="x"), other]
    # 9 bytes are 16 with their alignment.
    assert Trace((first, other, second)).lower_bound == 19


def test_an_empty_trace_needs_nothing():
    assert Trace(()).lower_bound == 0
