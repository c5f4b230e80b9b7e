"""Sharing between tasks: costs by hand and by another way of counting, refusals."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from loomax.nas.space.arch import StageArch
from loomax.nas.space.blocks import arch_blocks
from loomax.nas.space.count import count, macs, params
from loomax.nas.space.draw import generator, largest, random_arch, smallest
from loomax.nas.space.encode_tasks import decode_tasks, encode_tasks
from loomax.nas.space.tasks import (
    TaskArch,
    TaskSpace,
    count_tasks,
    private,
    random_tasks,
    shared,
    validate_tasks,
)


@pytest.fixture
def tasks(spaces):
    space = spaces["hybrid"]
    stem = replace(space.stages[0], kernel=(3,))
    return TaskSpace(replace(space, stages=(stem, *space.stages[1:])), ("depth", "normal", "edge"))


def head(space, arch):
    return arch_blocks(space, arch)[-1][1]


def test_shared_tasks_cost_one_network_and_classifiers(tasks):
    arch = largest(tasks.space)
    alone, all_of_it = count(tasks.space, arch), count_tasks(tasks, shared(tasks, arch))
    assert all_of_it.macs == alone.macs + 2 * macs(head(tasks.space, arch))
    assert all_of_it.params == alone.params + 2 * params(head(tasks.space, arch))


def test_private_tasks_cost_as_many_networks(tasks):
    arch = random_arch(tasks.space, generator(0))
    alone, all_of_it = count(tasks.space, arch), count_tasks(tasks, private(tasks, arch))
    assert (all_of_it.macs, all_of_it.params) == (3 * alone.macs, 3 * alone.params)
    assert all_of_it.outputs == 3 * alone.outputs


def test_once_split_nothing_is_computed_together(tasks):
    """The middle stage is private; the last has shared weights but not the same input."""
    arch = smallest(tasks.space)
    copies = tuple(((0, 0), (task + 1,) * 2, (0, 0)) for task in range(3))
    mixed = TaskArch((arch,) * 3, copies)
    cost, alone = count_tasks(tasks, mixed), count(tasks.space, arch)
    named = arch_blocks(tasks.space, arch)
    stem = [block for name, block in named if name == "stem"]
    middle = [block for name, block in named if name == "T1"]
    ends = head(tasks.space, arch)
    assert cost.macs == 3 * alone.macs - 2 * sum(macs(block) for block in stem)
    extra = 2 * sum(params(block) for block in middle) + 2 * params(ends)
    assert cost.params == alone.params + extra


def union_of_slices(space, arch: TaskArch) -> int:
    """Parameters of MLPs, counted by marking every (layer, copy, row, column) that is used."""
    marked = {}
    for own, copies in zip(arch.archs, arch.copies, strict=True):
        (stage,), (row,) = own.stages, copies
        for layer in range(stage.depth):
            key = (layer, row[layer + 1])
            grid = marked.setdefault(key, np.zeros((stage.width, 64), bool))
            grid[:, : int(stage.expand[layer] * stage.width)] = True
    # both matrices, the first one's bias
    return sum(2 * int(grid.sum()) + int(grid[0].sum()) for grid in marked.values())


def test_parameters_are_those_of_the_union_of_slices(spaces):
    tasks = TaskSpace(spaces["vit"], ("a", "b"))
    fields = {"v_scale": (1, 1), "heads": (2, 2)}
    one, other = (
        StageArch(8, 2, expand=(1.5, 2), **fields),
        StageArch(8, 2, expand=(2, 1.5), **fields),
    )
    base = smallest(tasks.space)
    archs = tuple(replace(base, stages=(stage,)) for stage in (one, other))
    arches = [TaskArch(archs, (((0, 0, 0),), ((0, 0, copy),))) for copy in (0, 2)]
    costs = [count_tasks(tasks, arch).params for arch in arches]
    fixed = [
        cost - union_of_slices(tasks.space, arch) for cost, arch in zip(costs, arches, strict=True)
    ]
    attention = 8 * 24 + 24 + 8 * 8 + 8 + 4 * 8 + 8  # one more private layer, MLP apart
    assert fixed[1] - fixed[0] == attention


def test_random_sharings_are_valid_and_cost_between_the_extremes(tasks):
    saved = 0
    for net in range(20):
        arch = random_tasks(tasks, generator(1, net))
        validate_tasks(tasks, arch)
        cost = count_tasks(tasks, arch)
        alone = [count(tasks.space, own) for own in arch.archs]
        assert max(one.macs for one in alone) <= cost.macs <= sum(one.macs for one in alone)
        assert cost.params <= sum(one.params for one in alone)
        saved += cost.macs < sum(one.macs for one in alone)
    assert 3 < saved
    assert random_tasks(tasks, generator(2)) == random_tasks(tasks, generator(2))


def test_sizes_and_copies_come_back_and_share_their_shapes(tasks):
    shapes = set()
    for net in range(8):
        arch = random_tasks(tasks, generator(1, net))
        encoded = encode_tasks(tasks, arch)
        assert decode_tasks(tasks, encoded) == arch
        shapes.add(str(jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), encoded)))
    assert len(shapes) == 1
    assert [copies.shape for copies in encoded.copies] == [(3, 2), (3, 3), (3, 2)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: replace(a, archs=a.archs[:2]), "2 networks and 3 rows of copies; allowed: 3"),
        (
            lambda a: replace(a, archs=(replace(a.archs[0], resolution=9), *a.archs[1:])),
            "task 'depth': arch: resolution is 9",
        ),
        (
            lambda a: replace(a, archs=(*a.archs[:2], replace(a.archs[2], resolution=16))),
            r"task 'edge': resolution and widths are \(16, .*; allowed: \(24, ",
        ),
        (
            lambda a: replace(a, copies=(a.copies[0][:2], *a.copies[1:])),
            r"task 'depth': copies has \[2, 3\] slots; allowed: \[2, 3, 2\]",
        ),
        (
            lambda a: replace(a, copies=(((0, 4), *a.copies[0][1:]), *a.copies[1:])),
            r"task 'depth': copies of stage 'stem' are \(0, 4\); allowed: 0 to 3",
        ),
    ],
)
def test_a_wrong_sharing_is_refused(tasks, change, message):
    with pytest.raises(ValueError, match=message):
        validate_tasks(tasks, change(shared(tasks, largest(tasks.space))))


def test_spaces_whose_slices_do_not_nest_are_refused(spaces):
    with pytest.raises(ValueError, match="stage 'C1': kernel and expand both vary"):
        TaskSpace(spaces["conv"], ("a",))
    with pytest.raises(ValueError, match=r"tasks is \('a', 'a'\): give each its own name"):
        TaskSpace(spaces["vit"], ("a", "a"))
