"""The main job's iteration as one fused plan, against stages that exchange through host memory.

The configuration is `quickstart`'s. `host-exchange` does the same work as systems do whose
simulator, policy and trainer are separate programs: compiled calls of the policy, of a chunk of
environment steps and of an update, with NumPy arrays between them; the prefix is encoded again in
every epoch (`separate-jits` of `loomax bench rl-step`). The plan fuses all stages into one program.
"""

from collections.abc import Callable

import jax

from benchmarks._rows import Row, compare, seconds, take_turns
from benchmarks.rl_step import SeparateJits, start
from benchmarks.rollout import sized
from loomax.agents.rl.config import TrainConfig
from loomax.agents.rl.parts import build
from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.plan.tree import Run
from loomax.agents.workflow.programs.rl import apart, make_iteration

STAGES = ("rollout", "returns", "update")


def rows(quick: bool) -> list[Row]:
    """Seconds of an iteration."""
    config = sized(quick)
    work = {"mjx-fused": fused(config), "host-exchange": SeparateJits(config).run}
    spent = take_turns(work, 2 if quick else 5)
    return compare("workflow", "iteration_s", "s", spent, "mjx-fused", ["host-exchange"], "lower")


def fused(config: TrainConfig) -> Callable[[], float]:
    """Runs one iteration after another by a plan of one program on all devices."""
    parts = build(config)
    held, key = list(apart(start(parts))), jax.random.key(3)
    plan = Run(STAGES, jax.device_count(), config.rl.rollout.envs, 1.0, 0, 0)
    execute = Executor(make_iteration(parts), plan, *held, key, donate=(0, 1))

    def run() -> float:
        spent, (state, worlds, _) = seconds(lambda: execute(*held, key))
        held[:] = [state, worlds]
        return spent

    return run
