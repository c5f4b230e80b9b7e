"""From a space to its supernet: stages, lanes, and what supernets lack."""

from dataclasses import replace

import pytest

from loomax.nas.space.digits import digits_space
from loomax.nas.space.draw import largest, smallest
from loomax.nas.space.elasticvit import elasticvit_space
from loomax.nas.space.stages import Opening
from loomax.nas.space.supernet import median, supernet_config


def test_lanes_are_smallest_median_largest():
    space = digits_space()
    config = supernet_config(space)
    assert [lane.stages[2].width for lane in config.lanes] == [8, 24, 32]
    assert [lane.stages[1].depth for lane in config.lanes] == [1, 2, 3]
    assert (config.classes, config.expand, config.channels) == (10, 2, 1)
    conv, attention = config.stages[1:]
    assert (conv.stride, conv.squeeze, conv.expand, conv.opening) == (2, 4, True, 0)
    assert (attention.head_dim, attention.bias, attention.expand) == (8, True, 2)
    assert config.stages[0].opening == 3 and not config.stages[0].expand


def test_the_published_space_has_one():
    config = supernet_config(elasticvit_space())
    assert len(config.lanes) == 3 and config.largest.resolution == 256


def test_medians_grow_with_the_widths_before():
    space = replace(digits_space(), growing=True)
    widths = [stage.width for stage in median(space).stages]
    assert widths == sorted(widths) == [4, 12, 24]


def changed(index, **fields):
    space = digits_space()
    stages = list(space.stages)
    stages[index] = replace(stages[index], **fields)
    return replace(space, stages=tuple(stages))


@pytest.mark.parametrize(
    ("space", "line"),
    [
        (changed(0, opening=Opening("mbconv", 3)), "stage 'stem' does not fit a supernet: give"),
        (changed(1, expand=(1, 2)), "one that has expand 1 alone, or above"),
        (changed(1, kernel=(1, 3)), "one that has kernel 1 alone, or from 3 on"),
        (changed(2, opening=Opening("conv", 3)), "one that opens with an mbconv"),
        (changed(2, class_token=True), "one that has class_token=False"),
        (changed(2, position="absolute"), "one that has position 'bias' or 'none'"),
    ],
)
def test_what_supernets_lack_is_refused(space, line):
    with pytest.raises(ValueError, match=line):
        supernet_config(space)


def test_wrong_lanes_are_refused():
    space = digits_space()
    with pytest.raises(ValueError, match="the last lane is not the largest network"):
        supernet_config(space, (smallest(space),))
    with pytest.raises(ValueError, match="6 lanes: give at most 4"):
        supernet_config(space, (smallest(space),) * 5 + (largest(space),))
