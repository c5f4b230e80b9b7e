"""The main job, read from top to bottom: ground, fine-tune on a few demonstrations, improve by RL.

Every stage ends in a checkpoint. A killed run goes on from its last one and ends, bit for bit on
one kind of machine, where an uninterrupted run would have ended.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loomax.agents.rl.config import FitConfig, TrainConfig
from loomax.agents.rl.evaluate import CONTROLS, Evaluation
from loomax.agents.rl.iteration import TrainState
from loomax.agents.rl.parts import build, with_shardings
from loomax.agents.rl.plots import learning_curves
from loomax.agents.rl.report import (
    Result,
    Score,
    artefacts,
    table,
    write_config,
    write_result,
)
from loomax.agents.rl.stages import Stages
from loomax.agents.rl.video import before_and_after
from loomax.envs.types import Env
from loomax.runtime.begun import KeptConfig
from loomax.runtime.checkpoint import Checkpointer
from loomax.runtime.compile import physics_options
from loomax.runtime.distributed import leads, say
from loomax.runtime.mesh import replicated
from loomax.runtime.metrics import MetricsWriter, check_finite
from loomax.runtime.owner import BUSY, own
from loomax.runtime.preemption import preemption
from loomax.runtime.progress import Progress

HELD_OUT, MONITOR = 0, 1
SUPERVISED = (("ground", Stages.ground), ("sft", Stages.fine_tune))


class Trainer:
    """What the stages of one run share: parts, compiled programs, checkpoints and clock."""

    def __init__(self, config: TrainConfig, run_dir: Path, env: Env | None = None):
        self.config, self.run_dir = config, run_dir
        # What to do when nothing can be refused any more.
        self.accept: Callable[[], None] = lambda: None
        self.parts = build(config, env=env)
        self.stages = Stages.of(self.parts)
        self.key = jax.random.key(config.seed)
        self.start, self.spent = time.monotonic(), 0.0
        self.tuned = Checkpointer(run_dir / "checkpoints" / "sft", keep=1)
        self.checkpoints = Checkpointer(run_dir / "checkpoints" / "rl", keep=2)
        self.whole = replicated(self.parts.mesh)
        self.scorer = jax.jit(
            self.parts.evaluator, compiler_options=physics_options(), out_shardings=self.whole
        )

    @property
    def wall_s(self) -> float:
        """Seconds that the run has taken, those before a restart included."""
        return self.spent + time.monotonic() - self.start

    def writer(self) -> MetricsWriter:
        """Metrics that go on after the newest checkpoint; rows of work since then are dropped."""
        step, done = self.checkpoints.latest_step(), self.tuned.latest_step()
        if step is None and done is not None:
            step = 0
        # Of a stage that did not end nothing is left.
        again = tuple(f"{name}/" for name, _ in SUPERVISED[done or 0 :])
        counted = ("rl/", "eval/")
        return MetricsWriter(self.run_dir, step, counted=counted, again=again, enabled=leads())

    def key_of(self, purpose: str) -> jax.Array:
        """A key of its own for every purpose."""
        return jax.random.fold_in(self.key, sum(map(ord, purpose)))

    # ------------------------------------------------------------------------------ scores

    def evaluate(self, params: Any, seeds: int, control: int = 0) -> Evaluation:
        """One episode on each seed of a set that training never uses."""
        key = jax.random.fold_in(jax.random.key(self.config.eval.seed), seeds)
        # Folding a number in gives what splitting has at its place: two keys, two streams.
        episodes_key, noise_key = jax.random.split(key)
        keys = jax.random.split(episodes_key, self.config.eval.episodes)
        return self.scorer(params, keys, jnp.int32(control), key=noise_key)

    def score(self, params: Any, seeds: int, control: int = 0) -> Score:
        """Success of `evaluate`."""
        return score_of(self.evaluate(params, seeds, control))

    @property
    def controls(self) -> list[int]:
        """Controls that change what this policy is shown in this world."""
        told, seen = len(self.parts.env.instructions) > 1, self.parts.evaluator.venv.images
        return [index for index, applies in ((1, told), (2, seen)) if applies]

    # ------------------------------------------------------------------- supervised stages

    def tune(self, writer: MetricsWriter) -> tuple[Any, Any]:
        """Grounded and fine-tuned (trained, frozen); finished stages come from the checkpoint."""
        params, done = self.parts.init_params(key=self.key_of("init")), 0
        if leads():
            self.tuned.check_room(params)
        kept = self.tuned.restore(jax.eval_shape(lambda: params))
        if kept is not None:
            done, params, notes = kept
            self.spent = notes["wall_s"]
            say(f"supervised stages: {done} of {len(SUPERVISED)} taken from the checkpoint")
        if done < len(SUPERVISED):
            # There is nothing of RL yet that could prove to be of another configuration.
            self.accept()
        for number, (name, stage) in enumerate(SUPERVISED[done:], start=done + 1):
            params = jax.device_put(params, self.parts.param_shardings(params))
            fit = getattr(self.config, name)
            if fit.steps:
                params = self.fit(name, stage, fit, params, writer)
            self.tuned.save(number, params, {"wall_s": self.wall_s})
        return jax.device_put(params, self.parts.param_shardings(params))

    def fit(self, name: str, stage: Any, config: FitConfig, params: Any, writer: MetricsWriter):
        """One supervised stage, from its beginning."""
        with Progress(config.steps, name, enabled=leads()) as progress:

            def log(step, metrics):
                writer.write(step, metrics, prefix=f"{name}/")
                progress.update(config.log_every, **metrics)

            return stage(self.stages, config, params, on_log=log, key=self.key_of(name))

    # ------------------------------------------------------------------------------- RL

    def begin(self, params: tuple[Any, Any]) -> tuple[TrainState, dict]:
        """The state and notes that RL goes on from: the newest checkpoint's, or fresh ones."""
        learner = self.parts.learner
        abstract = jax.eval_shape(learner.init, *params, key=self.key)
        shardings = self.parts.state_shardings(abstract)
        if leads():
            self.checkpoints.check_room(abstract)
        kept = self.checkpoints.restore(with_shardings(abstract, shardings))
        if kept is not None:
            _, state, notes = kept
            self.start, self.spent = time.monotonic(), notes["wall_s"]
            return state, notes
        init = jax.jit(learner.init, compiler_options=physics_options(), out_shardings=shardings)
        state = init(*params, key=self.key_of("envs"))
        return state, {"env_steps": 0, "streak": 0, "wall_s": 0.0}

    def improve(
        self, state: TrainState, notes: dict, writer: MetricsWriter
    ) -> tuple[TrainState, dict]:
        """Runs the iterations that are left; returns the last state and its notes."""
        config = self.config
        program = jax.jit(
            self.parts.learner,
            donate_argnames=("state",),
            out_shardings=(self.parts.state_shardings(state), self.whole),
            compiler_options=physics_options(),
        )
        first = int(state.step)
        bar = Progress(config.iterations - first, "rl", enabled=leads())
        with bar as progress, preemption() as notice:
            for step in range(first + 1, config.iterations + 1):
                if notes["streak"] >= 2:
                    break
                state, metrics = program(state, key=self.key_of("rl"))
                metrics = {name: float(value) for name, value in metrics.items()}
                check_finite(metrics, f"iteration {step}")
                notes["env_steps"] += int(metrics["env_steps"])
                writer.write(step, metrics, prefix="rl/")
                self.monitor(step, state, notes, writer)
                shown = ("success", "reward", "approx_kl")
                progress.update(1, **{name: metrics[name] for name in shown})
                stopped = step < config.iterations and notice.reached(step)
                if stopped or step % config.checkpoint_every == 0:
                    self.checkpoint(step, state, notes)
                if stopped:
                    notice.stop(step, "iteration")
        if int(state.step) != self.checkpoints.latest_step():
            self.checkpoint(int(state.step), state, notes)
        return state, notes

    def checkpoint(self, step: int, state: TrainState, notes: dict) -> None:
        """Saves everything that the next iteration needs."""
        notes["wall_s"] = self.wall_s
        self.checkpoints.save(step, state, notes)

    def monitor(self, step: int, state: TrainState, notes: dict, writer: MetricsWriter) -> None:
        """Scores the current policy now and then, on seeds of their own."""
        every = self.config.eval.every
        if not every or step % every:
            return
        score = self.score(final_params(state), MONITOR)
        writer.write(step, {"success": score.rate}, prefix="eval/")
        say(f"iteration {step}: {score} on monitoring seeds")
        notes["streak"] = notes["streak"] + 1 if score.rate >= self.config.eval.stop_at else 0

    # ------------------------------------------------------------------------------ report

    def report(self, before: Any, state: TrainState, notes: dict) -> Result:
        """Scores before and after on held-out seeds, the controls, and all artefacts."""
        config, after = self.config, final_params(state)
        episodes = {"before RL": self.evaluate(before, HELD_OUT)}
        episodes["after RL"] = self.evaluate(after, HELD_OUT)
        for index in self.controls:
            episodes[f"after RL, {CONTROLS[index]}"] = self.evaluate(after, HELD_OUT, index)
        scores = {name: score_of(played) for name, played in episodes.items()}
        first, last = scores["before RL"], scores["after RL"]
        told, black = (scores.get(f"after RL, {name}") for name in CONTROLS[1:])
        result = Result(
            success_before=first.rate,
            success_after=last.rate,
            ci95_before=first.interval,
            ci95_after=last.interval,
            success_shuffled_instructions=told and told.rate,
            success_black_images=black and black.rate,
            episodes=last.trials,
            wall_s=self.wall_s,
            env_steps=notes["env_steps"],
            iterations=int(state.step),
            config=config.name,
            seed=config.seed,
        )
        if leads():
            paths = self.write(result, episodes["before RL"], episodes["after RL"])
            say("\n" + table(scores) + "\n")
            say(f"{notes['env_steps']} environment steps of RL, {result.wall_s:.0f} s in all\n")
            say(artefacts(paths))
        return result

    def write(self, result: Result, before: Evaluation, after: Evaluation) -> dict[str, Path]:
        """Result, curves and video; returns where everything of the run lies."""
        config = self.config
        paths = {
            "result": self.run_dir / "result.json",
            "metrics": self.run_dir / "metrics.jsonl",
            "learning curves": self.run_dir / "plots" / "learning_curves.png",
            "checkpoint": self.run_dir / "checkpoints",
            "video": self.run_dir / "videos" / "before_after.mp4",
        }
        learning_curves(paths["metrics"], paths["learning curves"])
        count = config.eval.video_episodes
        if count:
            env = self.parts.evaluator.venv.env
            paths["video"] = before_and_after(env, before, after, paths["video"], count)
        write_result(paths["result"], result)
        return paths


def score_of(played: Evaluation) -> Score:
    """Successes out of episodes; those of environments that failed count as not solved."""
    broken = int(np.asarray(played.broken).sum())
    if broken:
        say(f"{broken} of {played.broken.size} episodes ended in a state that is not finite")
    return Score(int(np.asarray(played.success).sum()), played.success.size)


def final_params(state: TrainState) -> tuple[Any, Any]:
    """The parameters that a policy is judged and shipped by (averaged, if averaging is on)."""
    return state.average, state.frozen


def train(config: TrainConfig, run_dir: Path, env: Env | None = None) -> Result:
    """Runs (or goes on with) a training run in `run_dir` and returns its result.

    Args:
        env: any environment in place of the one that `config.env` describes.

    Raises:
        ValueError: if the configuration is inconsistent (value, bound and fix are named), or if
            the environment lacks something that a stage needs.
    """
    config.check_weights()
    config.validate(jax.device_count(), env)
    with own(run_dir, advice=BUSY) if leads() else nullcontext():
        kept = KeptConfig(run_dir, config, write_config, lead=leads())
        trainer = Trainer(config, run_dir, env)
        trainer.accept = kept.accept
        with trainer.writer() as writer:
            tuned = trainer.tune(writer)
            state, notes = trainer.begin(jax.tree.map(jnp.copy, tuned))
            trainer.accept()
            state, notes = trainer.improve(state, notes, writer)
        return trainer.report(tuned, state, notes)
