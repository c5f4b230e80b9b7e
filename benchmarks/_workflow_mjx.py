"""The main job's iteration as one fused plan, against stages that exchange through host memory.

The configuration is `quickstart`'s. `host-exchange` does the same work as systems do whose
simulator, policy and trainer are separate programs: a compiled policy call, then one batched
environment step with images per action, and everything that one part gives another passes through
NumPy arrays; the prefix is encoded again in every epoch. A plan that fuses all stages is
`mjx-fused`; both are compiled ahead and take turns.
"""

from collections.abc import Callable

import jax

from benchmarks._rows import Row, compare, seconds, take_turns
from benchmarks.rl_step import SeparateJits
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
    other = SeparateJits(config, whole_chunks=False)
    work = {"mjx-fused": fused(config), "host-exchange": other.run}
    spent = take_turns(work, 2 if quick else 5)
    return compare("workflow", "iteration_s", "s", spent, "mjx-fused", ["host-exchange"], "lower")


def fused(config: TrainConfig) -> Callable[[], float]:
    """Runs one iteration after another by a plan of one program on all devices."""
    parts = build(config)
    params = parts.init_params(key=jax.random.key(1))
    init = jax.jit(parts.learner.init)
    state, worlds = apart(init(*params, key=jax.random.key(2)))
    plan = Run(STAGES, jax.device_count(), config.rl.rollout.envs, 1.0, 0, 0)
    key = jax.random.key(3)
    execute = Executor(make_iteration(parts), plan, state, worlds, key, donate=(0, 1))
    held = [state, worlds]

    def run() -> float:
        spent, (state, worlds, _) = seconds(lambda: execute(*held, key))
        held[:] = [state, worlds]
        return spent

    return run
