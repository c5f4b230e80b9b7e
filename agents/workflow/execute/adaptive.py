"""A program that is planned again when its stages no longer take what their profile says.

Source of the rule (15 % over a window): RLinf, arXiv 2509.15965, which checkpoints and restarts;
here the next iteration runs by the new plan, and arrays move to where it needs them.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from jaxtyping import PyTree

from loomax.agents.workflow.adapt import Drift, DriftConfig, factors, observe, scaled
from loomax.agents.workflow.build import problem_of
from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.execute.watch import Piece, Watch, Watched
from loomax.agents.workflow.fit import Fit, fit
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.choose import Choice, choose
from loomax.agents.workflow.plan.config import PlanConfig
from loomax.agents.workflow.plan.tree import Chunks, Plan, Run, Shared, cost
from loomax.agents.workflow.profile import Profile
from loomax.agents.workflow.trace import trace

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdaptiveConfig:
    """When to measure, and what to plan.

    Args:
        every: iterations, of which one is measured; nothing overlaps in it.
        batch: items of one iteration, where `trace` cannot tell.

    Raises:
        ValueError: an interval below 1.
    """

    drift: DriftConfig = field(default_factory=DriftConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    every: int = 16
    batch: int | None = None

    def __post_init__(self):
        if self.every < 1:
            raise ValueError(f"every is {self.every}: it must be 1 or more")


class AdaptiveExecutor:
    """Runs a program by the best plan for its profile, and follows that when times drift.

    Some iterations are measured. When the median of a stage's times over a window has left the
    profile by more than the threshold, a fresh window is measured, since that one holds times from
    before as well; then the profile is scaled, and if another plan is better now, the next
    iteration runs by it. Results are those of any other plan: what a program computes depends on
    its inputs only, and each iteration is run once.

    Args:
        program, inputs, devices, donate: as of `Executor`.
        profile: of the program's stages, on the kind of device that `hardware` says.
        clock: seconds, for the measured iterations.

    Raises:
        ValueError: as `choose` and `Executor`.
    """

    def __init__(
        self,
        program: Callable,
        profile: Profile,
        hardware: Hardware,
        *inputs: PyTree,
        config: AdaptiveConfig | None = None,
        devices: Sequence[jax.Device] | None = None,
        donate: tuple[int, ...] = (),
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.config = config or AdaptiveConfig()
        self._program, self._hardware = program, hardware
        shapes = jax.tree.map(_shape, inputs)
        self._inputs, self._devices, self._donate = shapes, devices, donate
        self._workflow = trace(program, *shapes, batch=self.config.batch)
        self._background = {call.stage for call in self._workflow.calls if call.background}
        self._watch = Watch(clock)
        self.iterations = 0
        self._follow(profile)
        self.plan = self._best().plan
        self._build()

    def __call__(self, *inputs: PyTree) -> Any:
        """The program's output; see `Executor`."""
        # The first run of a plan compiles.
        self._watch.on = self._ran > 0 and self._ran % self.config.every == 0
        self._watch.take()
        output = self._run(*inputs)
        self.iterations += 1
        self._ran += 1
        for what, seconds in self._watch.take():
            self._observe(what, seconds)
        if self._suspect and self._measured_anew():
            self._adapt()
        return output

    def _follow(self, profile: Profile) -> None:
        """Compares with a profile from now on."""
        self.profile, self._drift, self._suspect = profile, Drift(), False
        self._fits: dict[str, Fit] = {}

    def _best(self) -> Choice:
        return choose(problem_of(self._workflow, self.profile, self._hardware), self.config.plan)

    def _build(self) -> None:
        options = {"devices": self._devices, "donate": self._donate, "watch": self._watch}
        self._run = Executor(self._program, self.plan, *self._inputs, **options)
        self._ran = 0

    def _observe(self, what: Watched, seconds: float) -> None:
        """One time; that of several stages in one program tells the same of all of them."""
        expected = sum(self._expected(piece, what) for piece in what.pieces)
        if not expected:
            return
        names = {name for piece in what.pieces for name in self._names(piece)}
        for name in sorted(names):
            told = self._drift, name, seconds / expected, 1.0
            self._drift, drifted = observe(self.config.drift, *told)
            if drifted and not self._suspect:
                self._suspect, self._drift = True, Drift()

    def _expected(self, piece: Piece, what: Watched) -> float:
        """Seconds by the profile: of the cycle as it was measured, else of its stages."""
        parts = [(piece.joined, 1)] if piece.joined in self.profile.stages else piece.stages
        return sum(self._seconds(name, what) * times for name, times in parts)

    def _seconds(self, name: str, what: Watched) -> float:
        if name not in self._fits:
            self._fits[name] = fit(self.profile.stage(name), name in self._background)
        return self._fits[name].option(what.batch, what.devices).seconds

    def _names(self, piece: Piece) -> list[str]:
        names = [piece.joined, *(stage for stage, _ in piece.stages)]
        return [name for name in names if name in self.profile.stages]

    def _measured_anew(self) -> bool:
        ratios = self._drift.ratios.values()
        return bool(ratios) and all(len(seen) >= self.config.drift.window for seen in ratios)

    def _adapt(self) -> None:
        """Another profile, and another plan if that is better now."""
        by = factors(self._drift)
        if all(abs(factor - 1) <= self.config.drift.threshold for factor in by.values()):
            self._drift, self._suspect = Drift(), False
            return
        self._follow(scaled(self.profile, by))
        choice = self._best()
        changed = outline(choice.plan) != outline(self.plan)
        told = ", ".join(f"{name} x{factor:.3g}" for name, factor in sorted(by.items()))
        logger.info(
            "iteration %d: %s; %s, predicted %.4g s an iteration",
            self.iterations,
            told,
            "another plan from here on" if changed else "the plan stays",
            choice.seconds,
        )
        if changed:
            self.plan = choice.plan
            self._build()


def outline(plan: Plan) -> tuple:
    """What a plan does, without what it is predicted to take."""
    if isinstance(plan, Run):
        stations = plan.ring.stations if plan.ring else ()
        turns = plan.ring.turns if plan.ring else 1
        ring = tuple((station.stage, station.devices) for station in stations)
        return plan.units, plan.devices, plan.batch, turns, ring
    if isinstance(plan, Chunks):
        return plan.count, outline(plan.child)
    kind = ("shared", plan.swap) if isinstance(plan, Shared) else ("space", cost(plan).devices)
    return (*kind, outline(plan.first), outline(plan.second))


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jax.numpy.shape(leaf), jax.dtypes.result_type(leaf))
