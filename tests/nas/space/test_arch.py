"""JSON, and refusals that name the stage, the field, the value and what is allowed."""

from dataclasses import replace

import pytest

from loomax.nas.space.arch import (
    Arch,
    at_least,
    from_json,
    to_json,
    uniform_stage,
    validate,
)
from loomax.nas.space.draw import generator, largest, random_arch, smallest
from loomax.nas.space.elasticvit import PUBLISHED
from loomax.nas.space.space import Head, Space
from loomax.nas.space.stages import ConvStage, Opening, TransformerStage


def changed(arch: Arch, stage: int, **fields) -> Arch:
    stages = list(arch.stages)
    stages[stage] = replace(stages[stage], **fields)
    return replace(arch, stages=tuple(stages))


def test_json_comes_back(space):
    for net in range(20):
        arch = random_arch(space, generator(0, net))
        again = from_json(to_json(arch))
        assert again == arch and hash(again) == hash(arch)
    assert from_json(to_json(PUBLISHED["L2"])) == PUBLISHED["L2"]


@pytest.mark.parametrize("text", ["", "{}", '{"resolution": 1, "stages": [{"wide": 3}]}', "[1]"])
def test_other_json_is_refused(text):
    with pytest.raises(ValueError, match="not an architecture: .*give what to_json wrote"):
        from_json(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 21}, r"arch: resolution is 21; allowed: \(20, 48\)"),
        ({"stages": ()}, "arch has 0 stages; allowed: 3, those of the space"),
    ],
)
def test_a_network_off_the_space_is_refused(spaces, change, message):
    with pytest.raises(ValueError, match=message):
        validate(spaces["conv"], replace(largest(spaces["conv"]), **change))


@pytest.mark.parametrize(
    ("stage", "fields", "message"),
    [
        (1, {"width": 9}, r"stage 'C1': width is 9; allowed: \(4, 8, 12\)"),
        (1, {"width": 4}, r"stage 'C1': width is 4 after 8; allowed: \(8, 12\)"),
        (1, {"depth": 3}, r"stage 'C1': depth is 3; allowed: \(1, 2\)"),
        (1, {"kernel": (3,)}, "stage 'C1': kernel has 1 values; allowed: 2"),
        (1, {"kernel": (7, 7)}, r"stage 'C1': kernel is 7; allowed: \(3, 5\)"),
        (1, {"kernel": (3, 5)}, r"stage 'C1': kernel is \(3, 5\); allowed: one value for all"),
        (2, {"heads": (1,)}, "stage 'C2': heads has 1 values; allowed: 0"),
    ],
)
def test_a_choice_off_the_space_is_refused(spaces, stage, fields, message):
    arch = changed(largest(spaces["conv"]), stage, **fields)
    with pytest.raises(ValueError, match=message):
        validate(spaces["conv"], arch)


def test_layerwise_stages_may_mix(spaces):
    validate(spaces["layerwise"], changed(largest(spaces["layerwise"]), 1, kernel=(3, 5)))


def test_all_written_out_architectures_are_valid_and_distinct(space, every_arch):
    archs = every_arch(space)
    assert len(set(archs)) == len(archs)
    for arch in archs[:: max(1, len(archs) // 40)]:
        validate(space, arch)


def test_the_part_that_is_at_least_an_architecture(spaces, every_arch):
    space = spaces["conv"]
    floor = changed(smallest(space), 1, width=8, depth=2, kernel=(5, 5), expand=(2, 2))
    above = at_least(space, floor)
    expected = [
        arch
        for arch in every_arch(space)
        if arch.stages[1].width >= 8 and arch.stages[1].depth == 2 and arch.stages[1].kernel[0] == 5
    ]
    assert set(every_arch(above)) == set(expected)


def test_uniform_stage_repeats_its_values(spaces):
    stage = uniform_stage(spaces["conv"].stages[1], 8, 2, kernel=5, expand=3)
    assert (stage.kernel, stage.expand, stage.heads) == ((5, 5), (3, 3), ())


STEM = ConvStage("stem", (8,), (1,), opening=Opening("conv", 3))


def space_of(*stages, resolutions=(8,), growing=True) -> Space:
    return Space(stages, resolutions, Head(2), growing=growing)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Opening("dense", 3), "dense"),
        (lambda: ConvStage("a", (8, 8), (1,)), r"stage 'a': width is \(8, 8\): give choices"),
        (lambda: ConvStage("a", (8,), ()), r"stage 'a': depth is \(\): give choices above 0"),
        (lambda: ConvStage("a", (8,), (0, 1)), r"stage 'a': depth is \(0, 1\): give choices"),
        (lambda: ConvStage("a", (1,), (1,), expand=(2, 2.5)), "equal hidden widths at width 1"),
        (
            lambda: TransformerStage("t", (60,), (1,), Opening("conv", 3)),
            "is not a multiple of head_dim 64",
        ),
        (lambda: TransformerStage("t", (64,), (1,), Opening("patch", 4)), "kernel is 4 and the"),
        (
            lambda: TransformerStage("t", (64,), (1,), Opening("conv", 3), position="sine"),
            "stage 't': .*sine",
        ),
        (lambda: space_of(), "give Opening"),
        (lambda: space_of(ConvStage("a", (8,), (1,))), "give Opening"),
        (lambda: space_of(STEM, STEM), r"named \['stem', 'stem'\]"),
        (lambda: space_of(STEM, resolutions=(8, 4)), r"resolutions is \(8, 4\)"),
        (
            lambda: space_of(STEM, ConvStage("a", (4,), (1,))),
            r"stage 'a': width \(4,\) ends below 8",
        ),
        (
            lambda: space_of(STEM, ConvStage("a", (16,), (1,), expand=(2, 2.1))),
            "stage 'a': expand .* at width 8",
        ),
        (
            lambda: space_of(
                TransformerStage("t", (64,), (1,), Opening("conv", 3), class_token=True),
                ConvStage("a", (64,), (1,)),
            ),
            "stage 't' has a class token and is not the last",
        ),
        (
            lambda: space_of(TransformerStage("t", (64,), (1,), Opening("patch", 3), stride=3)),
            "patches of 3 do not divide a side of 8",
        ),
    ],
)
def test_an_inconsistent_space_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_widths_may_shrink_where_a_space_says_so():
    space = space_of(STEM, ConvStage("a", (4,), (1,)), growing=False)
    validate(space, largest(space))
