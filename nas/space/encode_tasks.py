"""A network of several tasks as the sizes and copies that a compiled supernet takes. No JAX."""

from typing import NamedTuple

import numpy as np

from loomax.nas.space.encode import Sizes, StageSizes, decode, encode
from loomax.nas.space.tasks import TaskArch, TaskSpace, slot_counts, validate_tasks


class TaskSizes(NamedTuple):
    """A pytree whose shapes depend on the space only.

    Args:
        sizes: of all tasks' networks; every leaf has a leading axis of tasks.
        copies: for each stage, int32 [tasks, slots]: the copy of the opening (if there is one)
            and of each layer; 0 beyond the depth.
    """

    sizes: Sizes
    copies: tuple[np.ndarray, ...]


def encode_tasks(tasks: TaskSpace, arch: TaskArch) -> TaskSizes:
    """The sizes and copies of an architecture.

    Raises:
        ValueError: `arch` is not of the space.
    """
    validate_tasks(tasks, arch)
    each = [encode(tasks.space, own) for own in arch.archs]
    stages = tuple(
        StageSizes(*(np.stack(field) for field in zip(*stage, strict=True)))
        for stage in zip(*(sizes.stages for sizes in each), strict=True)
    )
    copies = []
    for index, stage in enumerate(tasks.space.stages):
        slots = (stage.opening is not None) + stage.depth[-1]
        table = np.zeros((len(tasks.tasks), slots), np.int32)
        for row, own in zip(table, arch.copies, strict=True):
            row[: len(own[index])] = own[index]
        copies.append(table)
    return TaskSizes(Sizes(np.stack([s.resolution for s in each]), stages), tuple(copies))


def decode_tasks(tasks: TaskSpace, encoded: TaskSizes) -> TaskArch:
    """The architecture whose sizes and copies these are.

    Raises:
        ValueError: no architecture of the space has them.
    """
    archs, copies = [], []
    for task in range(len(tasks.tasks)):
        stages = tuple(
            StageSizes(*(np.asarray(leaf)[task] for leaf in stage))
            for stage in encoded.sizes.stages
        )
        arch = decode(tasks.space, Sizes(np.asarray(encoded.sizes.resolution)[task], stages))
        rows = zip(encoded.copies, slot_counts(tasks.space, arch), strict=True)
        archs.append(arch)
        copies.append(tuple(tuple(np.asarray(row)[task, :n].tolist()) for row, n in rows))
    found = TaskArch(tuple(archs), tuple(copies))
    validate_tasks(tasks, found)
    return found
