"""Training of a searcher, read from top to bottom: rows, lessons of steps, an examination.

A killed run goes on from its last checkpoint and ends, bit for bit on one kind of machine, where
an uninterrupted run would have ended.
"""

import json
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import PyTree

from loomax.agents.pretrain.config import StageConfig
from loomax.agents.pretrain.documents import Documents
from loomax.agents.pretrain.streams import Streams
from loomax.agents.pretrain.train import Trainer
from loomax.agents.search.train.brain import Searcher, trained_model
from loomax.agents.search.train.config import SearcherConfig
from loomax.agents.search.train.exam import Marks, examine
from loomax.agents.search.train.report import Result, exact_matches, report, write_config
from loomax.agents.search.train.rows import ExpertRows
from loomax.agents.search.world.vocabulary import Vocabulary
from loomax.agents.search.world.world import make_world
from loomax.models.lm import count, safetensors, shapes
from loomax.runtime.distributed import leads, say


class SearcherTrainer(Trainer):
    """The trainer of language models, on trajectories in place of documents."""

    def __init__(self, config: SearcherConfig, run_dir: Path, mesh: Mesh | None = None):
        world = json.dumps(asdict(config.world))
        # Trajectories are made, so there are no documents; but a run keeps to one world.
        super().__init__(config.pretraining, run_dir, Documents((), (), (), world), mesh)
        self.lessons, self.world = config.lessons, make_world(config.world)
        self.vocabulary = Vocabulary(config.world.sizes)

    def batches(self, number: int, stage: StageConfig, held: dict | None = None) -> Streams:
        """See `Trainer`."""
        seed = np.random.SeedSequence([self.config.seed, number]).generate_state(1)
        count = len(held) if held else self.learner.share(stage.batch)[1]

        def open_stream(stream: int, rows: int) -> ExpertRows:
            return ExpertRows(
                self.world,
                self.vocabulary,
                self.lessons[number],
                rows=rows,
                seed=int(seed[0]),
                share=(stream, count),
            )

        streams = Streams(open_stream, count, stage.batch, self.learner.own_rows(stage.batch))
        if held:
            streams.restore(held)
        return streams


def train(config: SearcherConfig, run_dir: Path, mesh: Mesh | None = None) -> Result:
    """Runs (or goes on with) the training of a searcher in `run_dir` and returns its result.

    Raises:
        ValueError: if the configuration is inconsistent (value, bound and fix are named).
    """
    config.validate(jax.device_count() if mesh is None else mesh.size)
    if leads() and not (run_dir / "config.json").exists():
        write_config(run_dir / "config.json", config)
    trainer = SearcherTrainer(config, run_dir, mesh)
    with trainer.writer() as writer:
        state, notes = trainer.begin()
        # Not before the checkpoints have proved to be of this configuration.
        if leads():
            write_config(run_dir / "config.json", config)
        state = trainer.learn(state, notes, writer)
        params = gathered(state.params)
        if leads():
            searcher = Searcher(trained_model(config), params, config.world.sizes)
            safetensors.save(run_dir / "model.safetensors", searcher.model, params)
            marks = examine(searcher, trainer.world, config.exam)
            writer.write(int(state.step), exact_matches(marks), prefix="heldout/")
            result = make_result(config, trainer, notes, marks)
            say("\n" + report(run_dir, result))
        else:
            result = make_result(config, trainer, notes, {})
    return result


def make_result(
    config: SearcherConfig, trainer: SearcherTrainer, notes: dict, marks: dict[str, Marks]
) -> Result:
    """What is written as result.json."""
    return Result(
        exact_match=exact_matches(marks),
        marks=marks,
        train_loss=notes["train_loss"],
        tokens=notes["tokens"],
        steps=trainer.config.steps,
        parameters=count(shapes(config.model)),
        wall_s=trainer.wall_s,
        config=config.name,
        seed=config.seed,
    )


def gathered(params: PyTree) -> PyTree:
    """Parameters that this process has whole."""
    if jax.process_count() > 1:
        return multihost_utils.process_allgather(params, tiled=True)
    return params
