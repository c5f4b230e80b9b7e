"""Whether measured stage times have left the profile, so that it is time to plan again.

Pure: states go in and come out. Source of the rule (15 % over a window): RLinf, arXiv 2509.15965.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from loomax.agents.workflow.profile import Profile, StageProfile


@dataclass(frozen=True)
class DriftConfig:
    """When times count as drifted.

    Args:
        window: measurements of a stage that are looked at.
        threshold: relative deviation of their median from the profile above which to re-plan.
        release: deviation below which a drifted stage counts as recovered. Between the two
            nothing changes, so that times near the threshold do not toggle.

    Raises:
        ValueError: an empty window, or not 0 <= release <= threshold.
    """

    window: int = 16
    threshold: float = 0.15
    release: float = 0.075

    def __post_init__(self):
        if self.window < 1:
            raise ValueError(f"window is {self.window}: it must be 1 or more")
        if not 0 <= self.release <= self.threshold:
            raise ValueError(
                f"release is {self.release}: it must be between 0 and the threshold, "
                f"{self.threshold}"
            )


@dataclass(frozen=True)
class Drift:
    """What was measured since the plan was made.

    Args:
        ratios: of each stage, the last measured seconds over the profile's, oldest first.
        drifted: stages whose times have left the profile.
    """

    ratios: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: MappingProxyType({}))
    drifted: frozenset[str] = frozenset()


def observe(
    config: DriftConfig, drift: Drift, stage: str, measured_s: float, profile_s: float
) -> tuple[Drift, bool]:
    """The state after one measurement, and whether to re-plan now.

    It says re-plan once for each stage that drifts: when a full window's median leaves the
    threshold. After re-planning start from `Drift()` with the new profile.

    Raises:
        ValueError: a profile time that is not positive, or a measured one that is negative or
            not finite.
    """
    if not profile_s > 0:
        raise ValueError(f"the profile of {stage!r} says {profile_s} s: it must be above 0")
    if not (measured_s >= 0 and math.isfinite(measured_s)):
        raise ValueError(f"{stage!r} measured {measured_s} s: it must be finite and 0 or more")
    seen = (*drift.ratios.get(stage, ()), measured_s / profile_s)[-config.window :]
    drift = replace(drift, ratios=MappingProxyType({**drift.ratios, stage: seen}))
    if len(seen) < config.window:
        return drift, False
    off = abs(statistics.median(seen) - 1)
    if stage not in drift.drifted and off > config.threshold:
        return replace(drift, drifted=drift.drifted | {stage}), True
    if off < config.release:
        drift = replace(drift, drifted=drift.drifted - {stage})
    return drift, False


def factors(drift: Drift) -> dict[str, float]:
    """Median of measured over profile for every stage, by which to scale its profile."""
    return {stage: statistics.median(ratios) for stage, ratios in drift.ratios.items()}


def scaled(profile: Profile, by: Mapping[str, float]) -> Profile:
    """The profile with the seconds of stages multiplied.

    Args:
        by: of stages, as `factors` gives them. A cycle that was profiled as a whole and has none
            gets the mean of its stages' factors, weighted with their seconds.
    """
    return replace(
        profile,
        stages={
            name: _scaled(stage, by[name] if name in by else _of_cycle(name, profile, by))
            for name, stage in profile.stages.items()
        },
    )


def _of_cycle(name: str, profile: Profile, by: Mapping[str, float]) -> float:
    stages = name.split("+")
    if not all(stage in by and stage in profile.stages for stage in stages):
        return 1.0
    weights = [profile.stages[stage].measurements[0].seconds for stage in stages]
    return statistics.fmean([by[stage] for stage in stages], weights)


def _scaled(stage: StageProfile, by: float) -> StageProfile:
    found = tuple(replace(one, seconds=one.seconds * by) for one in stage.measurements)
    return replace(stage, measurements=found)
