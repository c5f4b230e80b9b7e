"""A search space: stages in a row, input resolutions, a classifier. Imports no JAX."""

from dataclasses import dataclass, replace
from itertools import pairwise

from loomax.nas.space.stages import Stage, TransformerStage, check_hidden


@dataclass(frozen=True)
class Head:
    """The classifier.

    Args:
        classes: outputs.
        expand: a 1x1 convolution to expand x width channels before pooling; 0 leaves it out.
        features: width of a layer between pooling and classifier; 0 leaves it out.
        norm: whether the last stage's output is layer-normalised first.
    """

    classes: int
    expand: int = 0
    features: int = 0
    norm: bool = False


@dataclass(frozen=True)
class Space:
    """All architectures that differ in resolution, widths, depths and layer choices.

    Args:
        stages: from the image to the classifier. The first one needs an opening.
        resolutions: choices of the input's side, pixels, growing.
        head: the classifier.
        channels: of the input.
        growing: whether a stage may not be narrower than the one before.

    Raises:
        ValueError: what is inconsistent, with the stage.
    """

    stages: tuple[Stage, ...]
    resolutions: tuple[int, ...]
    head: Head
    channels: int = 3
    growing: bool = True

    def __post_init__(self):
        if not self.stages or self.stages[0].opening is None:
            raise ValueError("a space needs a first stage with an opening: give Opening('conv', 3)")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages are named {names}: give each its own name")
        sides = self.resolutions
        if not sides or sides[0] <= 0 or any(a >= b for a, b in pairwise(sides)):
            raise ValueError(f"resolutions is {sides}: give choices above 0 that grow")
        for before, stage in pairwise(self.stages):
            self._check_pair(before, stage)
        for resolution in sides:
            self._check_patches(resolution)

    def _check_pair(self, before: Stage, stage: Stage) -> None:
        if self.growing and stage.width[-1] < before.width[-1]:
            raise ValueError(
                f"stage {stage.name!r}: width {stage.width} ends below {before.width[-1]}, the"
                f" largest of stage {before.name!r}: give a larger one, or growing=False"
            )
        if stage.opening is None:
            check_hidden(stage, before.width[0])
        if isinstance(before, TransformerStage) and before.class_token:
            raise ValueError(
                f"stage {before.name!r} has a class token and is not the last: leave it out"
            )

    def _check_patches(self, side: int) -> None:
        for stage in self.stages:
            if stage.opening and stage.opening.kind == "patch" and side % stage.stride:
                raise ValueError(
                    f"stage {stage.name!r}: patches of {stage.stride} do not divide a side of"
                    f" {side}: give resolutions that they divide"
                )
            side = -(-side // stage.stride)

    def widths_after(self, index: int, width_in: int) -> tuple[int, ...]:
        """The widths that stage `index` may take after a stage of `width_in` channels."""
        widths = self.stages[index].width
        if not self.growing or index == 0:
            return widths
        return tuple(width for width in widths if width >= width_in)


def restrict(space: Space, resolutions: tuple[int, ...], choices: tuple[dict, ...]) -> Space:
    """The same space with fewer choices.

    Args:
        resolutions: those that stay.
        choices: for each stage, the fields that change and what stays of them.
    """
    stages = tuple(
        replace(stage, **fewer) for stage, fewer in zip(space.stages, choices, strict=True)
    )
    return replace(space, stages=stages, resolutions=resolutions)
