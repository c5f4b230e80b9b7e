"""Boxes that can be seen, and the shade of all others."""

import numpy as np
import pytest

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.report.boxes import FAINTEST, covered, split

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.25, 0.5), (2.5, 5.25), (6.9, 7.0)])
def test_covered_shares_sum_to_the_length(low, high):
    start, share = covered(low, high, 7)
    assert start == int(low) and start + len(share) <= 7
    assert share.sum() == pytest.approx(high - low)
    assert (share >= 0).all() and (share <= 1).all()


def test_nothing_is_drawn_outside():
    start, share = covered(7.0, 7.5, 7)
    assert start == 6 and share.tolist() == [0.0]


def test_large_boxes_are_seen_and_small_ones_blend():
    records = [
        Lifetime("large", 50, 0, 50),
        Lifetime("flat", 1, 0, 100),
        Lifetime("upper", 1, 0, 100),
        Lifetime("short", 50, 60, 61),
    ]
    offsets = {"large": 50, "flat": 0, "upper": 1, "short": 50}
    colors = {"large": RED, "flat": RED, "upper": BLUE, "short": BLUE}
    # Ten steps and ten bytes a pixel.
    boxes = split(records, offsets, colors, (100, 100), (10, 10))
    assert [record.id for record in boxes.seen] == ["large"]
    expected = np.zeros((10, 10, 4))
    # Of the lowest row a tenth is red and a tenth blue.
    expected[0] = (0.5, 0.0, 0.5, FAINTEST + (1 - FAINTEST) * 0.2)
    expected[5:, 6] = (0.0, 0.0, 1.0, FAINTEST + (1 - FAINTEST) * 0.1)
    np.testing.assert_allclose(boxes.shade, expected, atol=1e-12)


def test_shade_is_never_more_than_opaque():
    records = [Lifetime(str(at), 1, 0, 100) for at in range(50)]
    offsets = dict.fromkeys(map(str, range(50)), 0)
    boxes = split(records, offsets, dict.fromkeys(offsets, RED), (100, 100), (10, 10))
    assert boxes.shade[0].tolist() == [[1.0, 0.0, 0.0, 1.0]] * 10
