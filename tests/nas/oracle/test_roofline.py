"""Rooflines against sums by hand, and the oracles' names."""

import pytest

from loomax.nas.oracle.chips import Chip
from loomax.nas.oracle.devices import oracle_of
from loomax.nas.oracle.roofline import roofline
from loomax.nas.space.blocks import Conv, MBConv

# One operation takes a second, and one byte two, in int8.
CHIP = Chip({"int8": 1.0, "bfloat16": 0.5}, 0.5)


def test_arithmetic_and_bytes_by_hand():
    # 3x3, 2 -> 4 channels on 4x4 pixels: 16 x 72 MACs; 72 weights and 8 of the norm, 32 read,
    # 64 written.
    block = Conv(4, 2, 4, 3, 1)
    assert roofline(block, CHIP, "int8") == max(2 * 16 * 72, 2 * (80 + 32 + 64))
    assert roofline(block, CHIP, "int8", batch=3) == max(2 * 3 * 16 * 72, 2 * (80 + 3 * 96))
    assert roofline(block, CHIP, "bfloat16") == 2 * roofline(block, CHIP, "int8")


def test_operators_read_what_was_written_before_them():
    # Without arithmetic: expand 2 -> 4, depthwise 3x3 stride 2, squeeze to 1, project 4 -> 3,
    # shortcut 2 -> 3; 4x4 pixels, then 2x2.
    chip = Chip({"int8": float("inf")}, 1.0)
    expand = (2 * 4 + 8) + 32 + 64
    depthwise = (9 * 4 + 8) + 64 + 16
    squeeze = (2 * 4 * 1 + 5) + 16 + 5
    project = (4 * 3 + 6) + 16 + 12
    shortcut = 2 * 3 + 32 + 12
    block = MBConv(4, 2, 3, 4, 3, stride=2, squeeze=1)
    assert roofline(block, chip, "int8") == expand + depthwise + squeeze + project + shortcut


def test_the_oracle_adds_blocks():
    block = Conv(4, 2, 4, 3, 1)
    (reading,) = oracle_of("roofline-v5e", 8, "int8").measure([(block, block)])
    memory = 2 * (80 + 8 * 96) / 819e9
    assert reading == (pytest.approx(memory), 0)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("v5",), "unknown device 'v5': did you mean v5"),
        (("cpu", 0), "batch is 0: give at least 1"),
        (("cpu", 1, "int8"), "dtype is 'int8': cpu takes float32, bfloat16"),
    ],
)
def test_wrong_names_are_one_line(arguments, line):
    with pytest.raises(ValueError, match=line):
        oracle_of(*arguments)
