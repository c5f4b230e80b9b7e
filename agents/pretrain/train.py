"""Pretraining, read from top to bottom: documents, stages of steps, held-out scores, a report.

A killed run goes on from its last checkpoint, which also says where the data stood, and ends, bit
for bit on one kind of machine, where an uninterrupted run would have ended.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from loomax.agents.pretrain.config import PretrainConfig, StageConfig
from loomax.agents.pretrain.data import Batches
from loomax.agents.pretrain.documents import Documents, load_documents
from loomax.agents.pretrain.learner import Learner, TrainState, model_of
from loomax.agents.pretrain.processes import gather, merge
from loomax.agents.pretrain.report import (
    Result,
    learning_curves,
    write_config,
    write_result,
)
from loomax.agents.pretrain.score import Score, Scorer
from loomax.agents.pretrain.streams import Stream, Streams
from loomax.agents.rl.report import artefacts
from loomax.models.lm import count, safetensors, shapes
from loomax.runtime.begun import KeptConfig
from loomax.runtime.checkpoint import Checkpointer
from loomax.runtime.distributed import leads, say
from loomax.runtime.mesh import make_mesh, replicated
from loomax.runtime.metrics import MetricsWriter, check_finite
from loomax.runtime.owner import BUSY, own
from loomax.runtime.preemption import Notice, preemption
from loomax.runtime.progress import Progress


class Trainer:
    """What the stages of one run share: documents, checkpoints, metrics and clock."""

    def __init__(
        self,
        config: PretrainConfig,
        run_dir: Path,
        documents: Documents,
        mesh: Mesh | None = None,
    ):
        self.config, self.run_dir, self.documents = config, run_dir, documents
        # What to do when nothing can be refused any more.
        self.accept: Callable[[], None] = lambda: None
        self.learner = Learner(config, make_mesh(config.mesh) if mesh is None else mesh)
        self.key = jax.random.key(config.seed)
        self.checkpoints = Checkpointer(run_dir / "checkpoints", keep=2)
        self.whole = replicated(self.learner.mesh)
        self.start, self.spent = time.monotonic(), 0.0

    @property
    def wall_s(self) -> float:
        """Seconds that the run has taken, those before a restart included."""
        return self.spent + time.monotonic() - self.start

    def writer(self) -> MetricsWriter:
        """Metrics that go on after the newest checkpoint."""
        return MetricsWriter(self.run_dir, self.checkpoints.latest_step(), enabled=leads())

    # ------------------------------------------------------------------------------- state

    def begin(self) -> tuple[TrainState, dict]:
        """The state and notes to go on from: the newest checkpoint's, or fresh ones.

        Raises:
            ValueError: the checkpoint is of another model, or the documents have changed.
        """
        key = jax.random.fold_in(self.key, 0)
        abstract, where = self.abstract()
        if leads():
            self.checkpoints.check_room(abstract)
        kept = self.checkpoints.restore(abstract)
        if kept is not None:
            step, state, notes = kept
            if notes["documents"] != self.documents.fingerprint:
                raise ValueError(
                    f"the documents of {self.run_dir} have changed since step {step}: give the "
                    "same ones, or start another run with init=RUN/model.safetensors"
                )
            self.start, self.spent = time.monotonic(), notes["wall_s"]
            say(f"going on after step {step}")
            return state, notes
        notes = {"tokens": 0, "wall_s": 0.0, "documents": self.documents.fingerprint}
        notes |= {"train_loss": None, "score": None, "data": None}
        if not self.config.init:
            return jax.jit(self.learner.draw, out_shardings=where)(key=key), notes
        params = safetensors.load(self.config.init, self.config.model, where.params)
        return jax.jit(self.learner.begin, out_shardings=where)(params), notes

    def abstract(self) -> tuple[TrainState, TrainState]:
        """Shapes of the state with their shardings, and these alone."""
        state = jax.eval_shape(self.learner.draw, key=self.key)
        where = self.learner.state_shardings(state)
        return jax.tree.map(
            lambda s, w: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=w), state, where
        ), where

    # ------------------------------------------------------------------------------ stages

    def learn(self, state: TrainState, notes: dict, writer: MetricsWriter) -> TrainState:
        """Runs the steps that are left and keeps `notes`; returns the last state."""
        done, first = int(state.step), 0
        bar = Progress(self.config.steps - done, self.config.name, enabled=leads())
        with bar as progress, preemption() as notice:
            for number, stage in enumerate(self.config.stages):
                last = first + stage.steps
                if done < last:
                    held = notes["data"] if done > first else None
                    batches = self.batches(number, stage, held)
                    self.accept()
                    steps = range(max(done, first) + 1, last + 1)
                    state = self.run_stage(
                        stage, steps, state, batches, notes, writer, progress, notice
                    )
                first = last
        return state

    def batches(self, number: int, stage: StageConfig, held: dict | None = None) -> Streams:
        """This process's rows of a stage, from its start or from where streams stood."""
        count = (
            len(held) if held else self.config.data.streams or self.learner.share(stage.batch)[1]
        )

        def open_stream(stream: int, rows: int) -> Stream:
            return self.stream(number, stage, rows=rows, share=(stream, count))

        streams = Streams(open_stream, count, stage.batch, self.learner.own_rows(stage.batch))
        if held:
            streams.restore(held)
        return streams

    def stream(
        self, number: int, stage: StageConfig, *, rows: int, share: tuple[int, int]
    ) -> Stream:
        """One of the streams that a stage is read in.

        Args:
            rows: of each batch.
            share: its number, and how many there are.
        """
        return Batches(
            self.documents,
            self.config.data,
            length=stage.length,
            rows=rows,
            seed=self.stage_seed(number),
            share=share,
        )

    def stage_seed(self, number: int) -> int:
        """What the data of a stage is drawn with."""
        return int(np.random.SeedSequence([self.config.seed, number]).generate_state(1)[0])

    def run_stage(
        self,
        stage: StageConfig,
        steps: range,
        state: TrainState,
        batches: Streams,
        notes: dict,
        writer: MetricsWriter,
        progress: Progress,
        notice: Notice,
    ) -> TrainState:
        """The steps of one stage, with metrics, scores and checkpoints now and then."""
        config, learner = self.config, self.learner
        program = jax.jit(
            partial(learner.step, stage),
            donate_argnames=("state",),
            out_shardings=(learner.state_shardings(state), self.whole),
        )
        scorer, speed = None, Speed()
        for step in steps:
            state, metrics = program(state, *learner.place(next(batches)))
            notes["tokens"] += stage.tokens
            speed.add(stage.tokens)
            last, shown = step == config.steps, {}
            if step == steps[0]:
                jax.block_until_ready(metrics)
                speed.restart()
            if last or due(step, config.log_every):
                shown = {name: float(value) for name, value in metrics.items()}
                check_finite(shown, f"step {step}")
                notes["train_loss"] = shown["loss"]
                shown |= {"tokens": notes["tokens"]} | speed.metrics()
                writer.write(step, shown, prefix="train/")
                speed.restart()
            progress.update(1, **{name: shown[name] for name in SHOWN if name in shown})
            if self.documents.held_out and (last or due(step, config.score.every)):
                scorer = scorer or Scorer(learner, stage, self.documents, most=config.score.rows)
                self.note(step, scorer(state.params), notes, writer)
                speed.restart()
            stopped = not last and notice.reached(step)
            if last or stopped or due(step, config.checkpoint_every):
                self.checkpoint(step, state, batches, notes)
                speed.restart()
            if stopped:
                notice.stop(step, "step")
        return state

    def note(self, step: int, score: Score, notes: dict, writer: MetricsWriter) -> None:
        """Writes a held-out score, and keeps it for the report."""
        notes["score"] = asdict(score)
        names = ("loss", "perplexity", "bits_per_byte", "accuracy")
        writer.write(step, {name: getattr(score, name) for name in names}, prefix="heldout/")
        say(f"step {step}: held-out {score}")

    def checkpoint(self, step: int, state: TrainState, batches: Streams, notes: dict) -> None:
        """Saves everything that the next step needs, the place in the data included."""
        notes |= {"wall_s": self.wall_s, "data": merge(gather(batches.state()))}
        self.checkpoints.save(step, state, notes)

    # ------------------------------------------------------------------------------ report

    def report(self, state: TrainState, notes: dict) -> Result:
        """The result, the parameters as one file, and where all artefacts lie."""
        config = self.config
        score = Score(**notes["score"]) if notes["score"] else None
        result = Result(
            perplexity=score and score.perplexity,
            loss=score and score.loss,
            bits_per_byte=score and score.bits_per_byte,
            accuracy=score and score.accuracy,
            held_out_tokens=score.tokens if score else 0.0,
            train_loss=notes["train_loss"],
            tokens=notes["tokens"],
            steps=int(state.step),
            parameters=count(shapes(config.model)),
            wall_s=self.wall_s,
            config=config.name,
            seed=config.seed,
        )
        params = state.params
        if jax.process_count() > 1:
            params = multihost_utils.process_allgather(params, tiled=True)
        if leads():
            paths = self.write(result, params)
            say(f"\nheld-out {score}" if score else "\nnothing was held out, so nothing is scored")
            say(f"{result.steps} steps, {result.tokens} tokens, {result.wall_s:.0f} s in all\n")
            say(artefacts(paths))
        return result

    def write(self, result: Result, params: Any) -> dict[str, Path]:
        """Result, curves and parameters; returns where everything of the run lies."""
        paths = {
            "result": self.run_dir / "result.json",
            "metrics": self.run_dir / "metrics.jsonl",
            "learning curves": self.run_dir / "plots" / "learning_curves.png",
            "checkpoint": self.run_dir / "checkpoints",
            "parameters": self.run_dir / "model.safetensors",
        }
        learning_curves(paths["metrics"], paths["learning curves"])
        safetensors.save(paths["parameters"], model_of(self.config, self.config.stages[-1]), params)
        write_result(paths["result"], result)
        return paths


SHOWN = ("loss", "tokens_per_s")


class Speed:
    """Tokens a second of training steps, without compiling, scoring and saving."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        self._tokens, self._start = 0, time.monotonic()

    def add(self, tokens: int) -> None:
        self._tokens += tokens

    def metrics(self) -> dict[str, float]:
        """Nothing before the first step since the restart."""
        if not self._tokens:
            return {}
        return {"tokens_per_s": self._tokens / (time.monotonic() - self._start)}


def due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps (0: never) happens after this one."""
    return every > 0 and step % every == 0


def train(config: PretrainConfig, run_dir: Path, mesh: Mesh | None = None) -> Result:
    """Runs (or goes on with) a pretraining run in `run_dir` and returns its result.

    Args:
        mesh: devices to use instead of all, in the shape that the configuration says.

    Raises:
        ValueError: if the configuration is inconsistent or the documents cannot be read (value,
            bound and fix, or file and line, are named).
    """
    config.validate(jax.device_count() if mesh is None else mesh.size)
    with own(run_dir, advice=BUSY) if leads() else nullcontext():
        kept = KeptConfig(run_dir, config, write_config, lead=leads())
        documents = load_documents(config.data)
        trainer = Trainer(config, run_dir, documents, mesh)
        trainer.accept = kept.accept
        with trainer.writer() as writer:
            state, notes = trainer.begin()
            state = trainer.learn(state, notes, writer)
            trainer.accept()
        return trainer.report(state, notes)
