"""Networks of several tasks that share some of their weights. Imports no JAX.

Every stage's blocks have a bank of weight copies, and each task says which copy it uses: copy 0
is meant to be shared, copy t + 1 is task t's own, but any sharing is allowed. Tasks choose their
own depths and layer sizes; resolution and widths are common, so that one task's weights are a
slice of another's. What tasks compute alike from the image on is computed once.

The idea of searching sharing and sizes together is AutoTaskFormer's (arXiv 2304.08756), which
published no code; this encoding is ours.
"""

from dataclasses import dataclass, replace

import numpy as np

from loomax.nas.space.arch import Arch, validate
from loomax.nas.space.blocks import Block, Tokens, arch_blocks
from loomax.nas.space.count import Cost, macs, outputs, params, parts
from loomax.nas.space.draw import random_arch
from loomax.nas.space.space import Space


@dataclass(frozen=True)
class TaskSpace:
    """All sharings of a space between tasks.

    Args:
        space: of one task's network. In a stage, at most one of the sizes that make up a weight
            may vary: kernel or expand, heads or v_scale.
        tasks: their names.
    """

    space: Space
    tasks: tuple[str, ...]

    def __post_init__(self):
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks is {self.tasks}: give each its own name")
        for stage in self.space.stages:
            for pair in (("kernel", "expand"), ("heads", "v_scale")):
                if all(len(getattr(stage, field, ())) > 1 for field in pair):
                    raise ValueError(
                        f"stage {stage.name!r}: {pair[0]} and {pair[1]} both vary, so that shared"
                        " weights are no slices of each other: give one choice for one of them"
                    )


@dataclass(frozen=True)
class TaskArch:
    """One network per task.

    Args:
        archs: for each task, its network.
        copies: for each task and stage, the copy of the opening's weights (if there is one), then
            that of each layer.
    """

    archs: tuple[Arch, ...]
    copies: tuple[tuple[tuple[int, ...], ...], ...]


def slot_counts(space: Space, arch: Arch) -> tuple[int, ...]:
    """For each stage, the number of its slots: the opening, if there is one, and the layers."""
    pairs = zip(space.stages, arch.stages, strict=True)
    return tuple((stage.opening is not None) + chosen.depth for stage, chosen in pairs)


def validate_tasks(tasks: TaskSpace, arch: TaskArch) -> None:
    """Checks that every network and every copy belongs to the space.

    Raises:
        ValueError: names the task, and the stage, value and what is allowed.
    """
    if not len(arch.archs) == len(arch.copies) == len(tasks.tasks):
        raise ValueError(
            f"{len(arch.archs)} networks and {len(arch.copies)} rows of copies; allowed:"
            f" {len(tasks.tasks)}, one for each task"
        )
    common = _common(arch.archs[0])
    for task, own, copies in zip(tasks.tasks, arch.archs, arch.copies, strict=True):
        try:
            validate(tasks.space, own)
        except ValueError as error:
            raise ValueError(f"task {task!r}: {error}") from error
        if _common(own) != common:
            raise ValueError(
                f"task {task!r}: resolution and widths are {_common(own)}; allowed: {common}, those"
                f" of task {tasks.tasks[0]!r}"
            )
        if tuple(len(row) for row in copies) != slot_counts(tasks.space, own):
            raise ValueError(
                f"task {task!r}: copies has {[len(row) for row in copies]} slots; allowed:"
                f" {list(slot_counts(tasks.space, own))}"
            )
        for stage, row in zip(tasks.space.stages, copies, strict=True):
            if any(not 0 <= copy <= len(tasks.tasks) for copy in row):
                raise ValueError(
                    f"task {task!r}: copies of stage {stage.name!r} are {row}; allowed: 0 to"
                    f" {len(tasks.tasks)}"
                )


def _common(arch: Arch) -> tuple[int, ...]:
    return (arch.resolution, *(stage.width for stage in arch.stages))


def task_blocks(space: Space, arch: Arch) -> list[tuple[int, int, Block]]:
    """(stage, slot, block) of one task's network without the classifier, in order."""
    found, index, names = [], 0, [stage.name for stage in space.stages]
    before = ""
    for name, block in arch_blocks(space, arch)[:-1]:
        stage = names.index(name)
        first = name != before
        opens = isinstance(block, Tokens) or (first and space.stages[stage].opening is not None)
        index = 0 if first or opens else index + 1
        found.append((stage, index, block))
        before = name
    return found


def count_tasks(tasks: TaskSpace, arch: TaskArch) -> Cost:
    """Costs of all tasks on one image; every task has its own classifier.

    What two tasks compute from the image on with the same copies and sizes counts once. The
    parameters of a copy are those of the union of its users' slices.

    Raises:
        ValueError: `arch` is not of the space.
    """
    validate_tasks(tasks, arch)
    prefixes: dict[tuple, Block] = {}
    weights: dict[tuple, int] = {}
    heads: list[Block] = []
    for own, copies in zip(arch.archs, arch.copies, strict=True):
        path: tuple = ()
        for stage, slot, block in task_blocks(tasks.space, own):
            copy = copies[stage][slot]
            path = (*path, (copy, block))
            prefixes[path] = block
            for part in parts(block):
                key = (stage, slot, copy, type(block), part.name)
                weights[key] = max(weights.get(key, 0), part.params)
        heads.append(arch_blocks(tasks.space, own)[-1][1])
    run = [*prefixes.values(), *heads]
    return Cost(
        sum(macs(block) for block in run),
        sum(weights.values()) + sum(params(block) for block in heads),
        sum(outputs(block) for block in run),
    )


def shared(tasks: TaskSpace, arch: Arch) -> TaskArch:
    """The same network and the shared copy for every task."""
    copies = tuple((0,) * slots for slots in slot_counts(tasks.space, arch))
    return TaskArch((arch,) * len(tasks.tasks), (copies,) * len(tasks.tasks))


def private(tasks: TaskSpace, arch: Arch) -> TaskArch:
    """The same network for every task, and nothing shared."""
    slots = slot_counts(tasks.space, arch)
    copies = tuple(
        tuple((task + 1,) * number for number in slots) for task in range(len(tasks.tasks))
    )
    return TaskArch((arch,) * len(tasks.tasks), copies)


def random_tasks(tasks: TaskSpace, rng: np.random.Generator) -> TaskArch:
    """Networks that share from the image on, up to a stage of each task's own.

    A ratio is drawn from [0, 1). Each task is the common network up to a stage, binomial with
    that ratio; behind it depths and layers are its own, and each slot is shared with that ratio.
    Sharing that starts at the image is what saves computation.
    """
    base, ratio = random_arch(tasks.space, rng), rng.random()
    archs, copies = [], []
    for task in range(len(tasks.tasks)):
        other = random_arch(tasks.space, rng)
        cut = int(rng.binomial(len(base.stages), ratio))
        stages = tuple(
            common if index < cut else replace(own, width=common.width)
            for index, (common, own) in enumerate(zip(base.stages, other.stages, strict=True))
        )
        own_arch = replace(base, stages=stages)
        archs.append(own_arch)
        copies.append(
            tuple(
                tuple(0 if index < cut or rng.random() < ratio else task + 1 for _ in range(slots))
                for index, slots in enumerate(slot_counts(tasks.space, own_arch))
            )
        )
    return TaskArch(tuple(archs), tuple(copies))
