"""Training of a searcher, read from top to bottom: steps of a trainer, an examination, a report.

A killed run goes on from its last checkpoint and ends, bit for bit on one kind of machine, where
an uninterrupted run would have ended.
"""

from contextlib import nullcontext
from pathlib import Path

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import PyTree

from loomax.agents.search.train.brain import Searcher, trained_model
from loomax.agents.search.train.exam import Marks, examine
from loomax.agents.search.train.grpo.config import RunConfig, SearcherGRPOConfig
from loomax.agents.search.train.grpo.trainer import GRPOTrainer
from loomax.agents.search.train.report import Result, exact_matches, report, write_config
from loomax.agents.search.train.trainer import ExpertTrainer, WorldTrainer
from loomax.models.lm import count, safetensors, shapes
from loomax.runtime.begun import KeptConfig
from loomax.runtime.distributed import leads, say
from loomax.runtime.owner import BUSY, own


def train(config: RunConfig, run_dir: Path, mesh: Mesh | None = None) -> Result:
    """Runs (or goes on with) the training of a searcher in `run_dir` and returns its result.

    Raises:
        ValueError: if the configuration is inconsistent (value, bound and fix are named).
    """
    config.validate(jax.device_count() if mesh is None else mesh.size)
    with own(run_dir, advice=BUSY) if leads() else nullcontext():
        return owned(config, run_dir, mesh)


def owned(config: RunConfig, run_dir: Path, mesh: Mesh | None) -> Result:
    """`train` in a folder that is this process's own."""
    kept = KeptConfig(run_dir, config, write_config, lead=leads())
    trainer = trainer_of(config, run_dir, mesh)
    trainer.accept = kept.accept
    with trainer.writer() as writer:
        state, notes = trainer.begin()
        state = trainer.learn(state, notes, writer)
        trainer.accept()
        params, steps = gathered(state.params), int(state.step)
        if leads():
            searcher = Searcher(trained_model(config), params, config.world.sizes)
            safetensors.save(run_dir / "model.safetensors", searcher.model, params)
            marks = examine(searcher, trainer.world, config.exam)
            # A run that had ended, or was killed here, is examined again.
            writer.cut("heldout/", steps - 1)
            writer.write(steps, exact_matches(marks), prefix="heldout/")
            result = make_result(config, trainer, steps, notes, marks)
            say("\n" + report(run_dir, result))
        else:
            result = make_result(config, trainer, steps, notes, {})
    return result


def trainer_of(config: RunConfig, run_dir: Path, mesh: Mesh | None) -> WorldTrainer:
    """The trainer for a configuration.

    Raises:
        ValueError: several processes are to play, or to draft.
    """
    alone = isinstance(config, SearcherGRPOConfig) or config.scores
    if alone and jax.process_count() > 1:
        raise ValueError(
            f"{jax.process_count()} processes: the agents of a step play in one, and drafts are "
            "made in one; start it alone"
        )
    if isinstance(config, SearcherGRPOConfig):
        return GRPOTrainer(config, run_dir, mesh)
    return ExpertTrainer(config, run_dir, mesh)


def make_result(
    config: RunConfig, trainer: WorldTrainer, steps: int, notes: dict, marks: dict[str, Marks]
) -> Result:
    """What is written as result.json."""
    return Result(
        exact_match=exact_matches(marks),
        marks=marks,
        train_loss=notes["train_loss"],
        train_reward=notes.get("train_reward"),
        tokens=notes["tokens"],
        steps=steps,
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
