"""Training of a supernet, read from top to bottom: data, nets, steps, scores, a report.

A killed run goes on from its last checkpoint, which also holds the sampler's memory and where the
data stood, and ends, bit for bit on one kind of machine, where an uninterrupted run would have.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from loomax.nas.sample.memory import Memory, due, entries, rescore
from loomax.nas.sample.walk import bank_at
from loomax.nas.space.arch import Arch
from loomax.nas.space.count import count
from loomax.nas.space.draw import largest, smallest
from loomax.nas.space.encode import encode
from loomax.nas.space.supernet import median, supernet_config
from loomax.nas.train.choice import Choice, empty_memory_of, make_chooser
from loomax.nas.train.config import SupernetTrainConfig
from loomax.nas.train.data.batches import Batches, gather
from loomax.nas.train.data.decode import check_images
from loomax.nas.train.data.source import Source, open_source
from loomax.nas.train.data.split import Part, split_images
from loomax.nas.train.learner import Batch, Learner, NetMetrics, Stepper, TrainState
from loomax.nas.train.lineup import Rounds, line_up
from loomax.nas.train.report import Result, learning_curves, write_config, write_result
from loomax.nas.train.score import Scorer
from loomax.nas.train.spaces import HIERARCHIES, space_named
from loomax.nas.train.teacher import Teacher
from loomax.runtime.begun import KeptConfig
from loomax.runtime.checkpoint import Checkpointer
from loomax.runtime.mesh import SUBNET
from loomax.runtime.metrics import MetricsWriter, check_finite
from loomax.runtime.owner import BUSY, own
from loomax.runtime.preemption import preemption
from loomax.runtime.progress import Progress


class Trainer:
    """What the steps of one run share: images, nets, programs, checkpoints and clock."""

    def __init__(self, config: SupernetTrainConfig, run_dir: Path, source: Source):
        self.config, self.run_dir, self.source = config, run_dir, source
        # What to do when nothing can be refused any more.
        self.accept: Callable[[], None] = lambda: None
        self.space = space_named(config.space, source.classes)
        self.side = self.space.resolutions[-1]
        self.split = split_images(len(source), config.data)
        self.epoch = len(self.split.train) // config.data.batch
        hierarchy = HIERARCHIES.get(config.space, ())
        self.chooser = make_chooser(self.space, config.sampler, hierarchy)
        supernet = supernet_config(self.space)
        self.learner = Learner(config, supernet, subnet_mesh(config.subnets))
        self.stepper = Stepper(self.learner, len(self.space.resolutions))
        given = config.distill
        self.teacher = (
            Teacher(given.teacher, given.temperature, classes=source.classes)
            if given.teacher
            else None
        )
        self.checkpoints = Checkpointer(run_dir / "checkpoints", keep=2)
        self.start, self.spent = time.monotonic(), 0.0

    @property
    def wall_s(self) -> float:
        """Seconds that the run has taken, those before a restart included."""
        return self.spent + time.monotonic() - self.start

    def writer(self) -> MetricsWriter:
        """Metrics that go on after the newest checkpoint."""
        return MetricsWriter(self.run_dir, self.checkpoints.latest_step())

    # ------------------------------------------------------------------------------- state

    def begin(self) -> tuple[TrainState, Any, dict]:
        """State, memory and notes to go on from: the newest checkpoint's, or fresh ones.

        Raises:
            ValueError: the checkpoint is of another configuration, or the images have changed.
        """
        key = jax.random.fold_in(jax.random.key(self.config.seed), 0)
        empty = empty_memory_of(self.space, self.config.sampler)
        abstract = jax.eval_shape(self.learner.draw, key=key), empty
        self.checkpoints.check_room(abstract)
        kept = self.checkpoints.restore(abstract)
        if kept is None:
            notes = {"wall_s": 0.0, "images": self.source.fingerprint, "data": None, "loss": None}
            return jax.jit(self.learner.draw)(key=key), empty, notes
        step, (state, memory), notes = kept
        if notes["images"] != self.source.fingerprint:
            raise ValueError(
                f"the images of {self.run_dir} have changed since step {step}: give the same ones,"
                " or start another run"
            )
        self.start, self.spent = time.monotonic(), notes["wall_s"]
        print(f"going on after step {step}", flush=True)
        return state, jax.tree.map(np.asarray, memory), notes

    # ------------------------------------------------------------------------------- steps

    def learn(self, state: TrainState, memory: Any, notes: dict, writer: MetricsWriter):
        """Runs the steps that are left; returns the last state."""
        config, done = self.config, int(state.step)
        batches = self.batches()
        if notes["data"] is not None:
            batches.restore(notes["data"])
        score = self.scorer("validation")
        self.accept()
        bar = Progress(config.steps - done, config.name)
        with bar as progress, preemption() as notice:
            for step in range(done, config.steps):
                images = next(batches)
                batch = self.batch(images)
                epoch = step // self.epoch
                memory = self.refresh(memory, state, batch, step)
                choice = self.chooser.choose(memory, seed=config.seed, step=step, epoch=epoch)
                rounds = line_up(self.space, choice, config.subnets)
                state, of_nets, metrics = self.stepper(state, batch, rounds)
                memory = self.remember(memory, choice, rounds, of_nets)
                number, last, shown = step + 1, step + 1 == config.steps, {}
                if last or number % config.log_every == 0:
                    shown = self.log(number, choice, rounds, of_nets, metrics, writer)
                    notes["loss"] = shown["loss"]
                if last or number % config.score_every == 0:
                    found = self.extremes(score, state.params)
                    writer.write(number, found, prefix="validation/")
                    shown |= found
                progress.update(1, **shown)
                stopped = not last and notice.reached(number)
                if last or stopped or number % config.checkpoint_every == 0:
                    notes |= {"wall_s": self.wall_s, "data": batches.state()}
                    self.checkpoints.save(number, (state, memory), notes)
                if stopped:
                    notice.stop(number, "step")
        return state

    def batches(self) -> Batches:
        """The run's training batches from their start."""
        seed = int(np.random.SeedSequence([self.config.seed, 1]).generate_state(1)[0])
        return Batches(self.source, self.split.train, self.config.data, side=self.side, seed=seed)

    def batch(self, images: Any) -> Batch:
        """Images on the device, with what the teacher network says of them."""
        given = jnp.asarray(images.images)
        soft = self.teacher(given) if self.teacher is not None else None
        return Batch(given, jnp.asarray(images.labels), soft)

    def remember(self, memory: Any, choice: Choice, rounds: Rounds, of_nets: NetMetrics) -> Any:
        """The memory after a step; waits for the step only if there is one."""
        if not isinstance(memory, Memory):
            return memory
        nats = np.asarray(of_nets.nats).reshape(-1)[list(rounds.places)]
        return self.chooser.remember(memory, choice, nats.tolist())

    def refresh(self, memory: Any, state: TrainState, batch: Batch, step: int) -> Any:
        """The memory with new scores where they are due: parameters have moved since."""
        if not isinstance(memory, Memory):
            return memory
        banks = self.chooser.sampler.config
        bank = bank_at(self.config.seed, step, len(banks.banks))
        for number in due(banks, step % self.epoch, self.epoch, bank):
            archs = entries(self.space, memory, number)
            nats = [
                self.stepper.nats(
                    state.params, batch, encode(self.space, arch), side=arch.resolution
                )
                for arch in archs
            ]
            memory = rescore(memory, number, -np.asarray(nats, np.float32))
        return memory

    def log(
        self,
        number: int,
        choice: Choice,
        rounds: Rounds,
        of_nets: NetMetrics,
        metrics: dict,
        writer: MetricsWriter,
    ) -> dict[str, float]:
        """Writes means over the step's nets; returns what is shown beside the progress."""
        places = list(rounds.places)
        means = {
            name: float(np.asarray(getattr(of_nets, name)).reshape(-1)[places].mean())
            for name in NetMetrics._fields
        }
        shown = means | {name: float(value) for name, value in metrics.items()}
        check_finite(shown, f"step {number}")
        writer.write(number, shown | {"bank": choice.bank}, prefix="train/")
        return {name: shown[name] for name in ("loss", "accuracy")}

    # ------------------------------------------------------------------------------ scores

    def scorer(self, part: Part) -> Scorer:
        """Scores on one part of the images, normalised by training images."""
        return make_scorer(self.config, self.space, self.source, part)

    def named(self) -> dict[str, Arch]:
        """The nets that are scored in passing."""
        found = (smallest(self.space), median(self.space), largest(self.space))
        return dict(zip(("smallest", "median", "largest"), found, strict=True))

    def extremes(self, score: Scorer, params: Any) -> dict[str, float]:
        """Accuracy of the smallest, the median and the largest net."""
        return {name: score.accuracy(params, arch) for name, arch in self.named().items()}

    # ------------------------------------------------------------------------------ report

    def report(self, state: TrainState, notes: dict) -> Result:
        """The result and the curves, and where all artefacts lie."""
        config = self.config
        result = Result(
            validation=self.extremes(self.scorer("validation"), state.params),
            test=self.extremes(self.scorer("test"), state.params),
            loss=notes["loss"],
            steps=int(state.step),
            parameters=count(self.space, largest(self.space)).params,
            compilations=self.stepper.compilations,
            wall_s=self.wall_s,
            config=config.name,
            seed=config.seed,
        )
        paths = {
            "result": self.run_dir / "result.json",
            "metrics": self.run_dir / "metrics.jsonl",
            "learning curves": self.run_dir / "plots" / "learning_curves.png",
            "checkpoint": self.run_dir / "checkpoints",
        }
        learning_curves(paths["metrics"], paths["learning curves"])
        write_result(paths["result"], result)
        shown = ", ".join(f"{name} {value:.1%}" for name, value in result.test.items())
        print(f"\ntest accuracy: {shown}; {result.steps} steps, {result.wall_s:.0f} s in all\n")
        print("\n".join(f"{name:<16}{path}" for name, path in paths.items()), flush=True)
        return result


def subnet_mesh(devices: int) -> Mesh | None:
    """The first devices as the `subnet` axis; None for one."""
    if devices == 1:
        return None
    return Mesh(np.asarray(jax.devices()[:devices]), (SUBNET,), axis_types=(AxisType.Auto,))


def make_scorer(config: SupernetTrainConfig, space: Any, source: Source, part: Part) -> Scorer:
    """Scores subnets on one part of a configuration's images."""
    split, side = split_images(len(source), config.data), space.resolutions[-1]
    calibration = gather(source, split.train[: config.calibration], side).images
    held_out = gather(source, getattr(split, part), side)
    return Scorer(space, supernet_config(space), calibration, held_out)


def train(config: SupernetTrainConfig, run_dir: Path) -> Result:
    """Runs (or goes on with) the training of a supernet in `run_dir` and returns its result.

    Raises:
        ValueError: if the configuration is inconsistent or the images cannot be read (value,
            bound and fix, or the file, are named).
    """
    config.validate(jax.device_count())
    with own(run_dir, advice=BUSY):
        kept = KeptConfig(run_dir, config, write_config)
        source = open_source(config.data)
        if config.data.source not in ("digits", "shapes"):
            check_images(source, config.data.workers)
        trainer = Trainer(config, run_dir, source)
        trainer.accept = kept.accept
        with trainer.writer() as writer:
            state, memory, notes = trainer.begin()
            state = trainer.learn(state, memory, notes, writer)
        return trainer.report(state, notes)
