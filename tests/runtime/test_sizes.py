"""Numbers of bytes as people write them."""

import pytest

from loomax.runtime.sizes import parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("15GiB", 15 * 2**30),
        (" 1.5 mib ", 3 * 2**19),
        ("900MB", 900_000_000),
        ("2e3", 2000),
        ("7B", 7),
        (12, 12),
    ],
)
def test_bytes_are_read(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "-3", "4 GiBs", "1.2.3", "0", "0.1B"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="bytes"):
        parse_bytes(text)
