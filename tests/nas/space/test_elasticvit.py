"""Conformance: the published networks of ElasticViT cost what is known of them.

The figures are those of our research notes, which a counter of its own gave; they reproduce the
published ranges (37 M to 3 G for the space, 60 M to 800 M for the networks, arXiv 2303.09730).
They count convolutions on the main path, attention, MLPs and the classifier, and leave out what
the networks have too: squeeze-and-excite (two 1x1 convolutions on one pixel) and the 1x1
convolutions on skip paths where the width changes. The exact count has both and is 0.5 to 4 %
higher; nearly all of it are the skip paths of the MBConvs that open stages.

The public code's own counter lies between (62.9, 120.0, 217.6, 318.5, 415.6, 517.1, 618.8, 704.1,
815.4 M): it leaves those skip paths out as well, counts a 3x3 depthwise convolution on the values
as one MAC per element, rounds odd maps up, and adds one per element of the softmax.
"""

import math

import pytest

from loomax.nas.space.arch import Arch, validate
from loomax.nas.space.count import count
from loomax.nas.space.draw import generator, largest, random_arch, smallest
from loomax.nas.space.elasticvit import PUBLISHED, SMALLEST, elasticvit_space

LEFT_OUT = ("squeeze", "shortcut")
SPACE = elasticvit_space()
ENDS = {"MIN": smallest(SPACE), "MAX": largest(SPACE)}
# Name -> millions of MACs as published, as counted exactly.
MILLIONS = {
    "MIN": (37, 38.286),
    "T1": (62, 64.899),
    "T2": (117, 120.548),
    "S1": (217, 221.549),
    "S2": (314, 320.252),
    "M": (410, 417.419),
    "L1": (515, 522.879),
    "L1.5": (617, 626.031),
    "L2": (702, 713.129),
    "L3": (812, 824.590),
}


@pytest.mark.parametrize("name", MILLIONS)
def test_published_macs_to_the_million(name):
    arch = ENDS.get(name) or PUBLISHED[name]
    validate(SPACE, arch)
    assert round(count(SPACE, arch, skip=LEFT_OUT).macs / 1e6) == MILLIONS[name][0]


def walk(arch: Arch) -> int:
    """MACs by walking through the shapes, without the library's blocks."""

    def mbconv(width_in, width, expand, kernel, stride, side, excite) -> tuple[int, int]:
        hidden, after = expand * width_in, math.ceil(side / stride)
        total = width_in * hidden * side**2 * (expand > 1) + 2 * hidden * (hidden // 4) * excite
        total += hidden * (kernel**2 + width) * after**2
        return total + width_in * width * after**2 * (width_in != width), after

    side, width = arch.resolution // 2, arch.stages[0].width
    total = 27 * width * side**2
    for place, stage in enumerate(arch.stages):
        for layer in range(stage.depth):
            if place < 3:
                stride = 2 if place and layer == 0 else 1
                choice = (stage.expand[layer], stage.kernel[layer], stride, side, place == 2)
                more, side = mbconv(width, stage.width, *choice)
                total, width = total + more, stage.width
                continue
            if layer == 0:
                stride = 1 if place == 4 else 2
                more, side = mbconv(width, stage.width, 6, 3, stride, side, True)
                total, width = total + more, stage.width
            tokens, values = side**2, stage.v_scale[layer] * width
            total += tokens * width * (2 * width + values) + tokens**2 * (width + values)
            total += tokens * values * (9 + width) + 2 * tokens * width**2 * stage.expand[layer]
    return total + side**2 * width * 6 * width + 6 * width * 1984 + 1984 * 1000


@pytest.mark.parametrize("name", MILLIONS)
def test_macs_are_those_of_a_walk_through_the_shapes(name):
    arch = ENDS.get(name) or PUBLISHED[name]
    assert count(SPACE, arch).macs == walk(arch)


def test_macs_of_random_networks_are_those_of_the_walk():
    for net in range(30):
        arch = random_arch(SPACE, generator(0, net))
        assert count(SPACE, arch).macs == walk(arch)


def test_largest_has_3_20_g_macs():
    assert round(count(SPACE, ENDS["MAX"], skip=LEFT_OUT).macs / 1e9, 2) == 3.20
    assert round(count(SPACE, ENDS["MAX"]).macs / 1e9, 3) == 3.213


@pytest.mark.parametrize("name", MILLIONS)
def test_exact_macs_are_1_to_4_percent_above_the_published(name):
    exact = count(SPACE, ENDS.get(name) or PUBLISHED[name]).macs
    assert exact / 1e6 == pytest.approx(MILLIONS[name][1], abs=5e-4)
    assert 1.01 < exact / count(SPACE, ENDS.get(name) or PUBLISHED[name], skip=LEFT_OUT).macs < 1.04


def test_number_of_choices_is_about_5_5e16():
    """Research figure: before widths must grow."""
    total = len(SPACE.resolutions)
    for stage in SPACE.stages:
        total *= math.prod(len(getattr(stage, field)) for field in stage.layer_fields)
        total *= len(stage.width) * len(stage.depth)
    assert total == pytest.approx(5.5e16, rel=0.01)


def test_smallest_networks_of_the_banks_grow():
    macs = [count(SPACE, arch).macs for _, arch in SMALLEST]
    assert SMALLEST[0][1] == ENDS["MIN"]
    assert macs == sorted(macs)
    assert all(cost < bank for cost, (bank, _) in zip(macs, SMALLEST, strict=True))
    for _, arch in SMALLEST:
        validate(SPACE, arch)


def test_nine_networks():
    assert list(PUBLISHED) == [name for name in MILLIONS if name != "MIN"]
