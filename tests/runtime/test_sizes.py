"""Numbers of bytes as people write them."""

import math

import numpy as np
import pytest

from loomax.runtime.sizes import MOST, parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("15GiB", 15 * 2**30),
        (" 1.5 mib ", 3 * 2**19),
        ("900MB", 900_000_000),
        ("2e3", 2000),
        ("7B", 7),
        ("3TB", 3 * 10**12),
        ("1KiB", 1024),
        ("1.7", 1),
        # Not a float's nearest number.
        ("9007199254740993", 2**53 + 1),
        ("0.3GB", 300_000_000),
        (12, 12),
        (1e9, 10**9),
        (2.0**59, 2**59),
        (1.5, 1),
        (np.float64(1e6), 10**6),
        (MOST, MOST),
    ],
)
def test_bytes_are_read(text, count):
    found = parse_bytes(text)
    assert found == count and type(found) is int


NUMBERLESS = ["", " ", "GiB", "-3", "4 GiBs", "1.2.3", "nan", "inf", "-inf", "1e-3", "٣GiB", "0x10"]


@pytest.mark.parametrize("given", [*NUMBERLESS, -5, -1e9, math.nan, math.inf, True, False])
def test_what_is_no_number_of_bytes_is_named(given):
    with pytest.raises(ValueError) as caught:
        parse_bytes(given, "budget")
    assert str(caught.value) == (
        f"budget is {given!r}, no number of bytes: write 15GiB, 900MiB, 16GB or 1000000"
    )


@pytest.mark.parametrize("given", ["0", "0.1B", 0, 0.5])
def test_less_than_a_byte_is_refused(given):
    with pytest.raises(ValueError, match=f"limit is {given!r}, which is 0 bytes: give at least 1"):
        parse_bytes(given, "limit")
    assert parse_bytes(given, "limit", least=0) == 0


@pytest.mark.parametrize(
    "given",
    ["1e400", "1e400GiB", "1e99999999999999999999", MOST + 1, f"{MOST}.5", "1.1e6TiB", 1e30],
)
def test_more_than_any_machine_has_is_refused(given):
    with pytest.raises(ValueError, match=r"budget is .*, more than 2\*\*60 bytes: give at most"):
        parse_bytes(given, "budget")


@pytest.mark.parametrize("given", ["9" * 100_000, "x" * 100_000, 10**5000], ids=range(3))
def test_a_message_does_not_quote_what_has_no_end(given):
    with pytest.raises(ValueError) as caught:
        parse_bytes(given)
    assert len(str(caught.value)) < 200
