"""Settings of the planner. Imports no JAX."""

from dataclasses import dataclass

MODES = ("fused", "shared", "space")


@dataclass(frozen=True)
class PlanConfig:
    """What the planner may use.

    Args:
        modes: "fused" (several stages in one program), "shared" (time), "space" (disjoint devices).
            A cycle on the same devices is fused or shared, one on disjoint devices is space.
        microbatches: into how many parts a batch may be cut, on its way or round a cycle; those
            that do not divide it are left out. (1,) turns microbatches off.

    Raises:
        ValueError: an unknown mode, no mode, a count below 1.
    """

    modes: tuple[str, ...] = MODES
    microbatches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)

    def __post_init__(self):
        for mode in self.modes:
            if mode not in MODES:
                raise ValueError(f"unknown mode {mode!r}: choose from {', '.join(MODES)}")
        if not self.modes:
            raise ValueError(f"no mode: choose from {', '.join(MODES)}")
        for count in self.microbatches:
            if count < 1:
                raise ValueError(f"microbatches has {count}: counts are 1 or more")

    @property
    def counts(self) -> set[int]:
        """Into how many parts a batch may be cut, 1 included."""
        return {1, *self.microbatches}

    def sizes(self, batch: int) -> tuple[int, ...]:
        """The batch and its microbatches, large to small."""
        return tuple(sorted({batch // k for k in self.counts if batch % k == 0}, reverse=True))
