"""A trained supernet behind its folder: accuracy of any net of it, and networks taken out of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from loomax.models.elastic.config import SupernetConfig
from loomax.models.elastic.deploy.network import Network, calibrate
from loomax.models.elastic.extract import build, extract
from loomax.nas.space.arch import Arch
from loomax.nas.space.encode import encode
from loomax.nas.space.space import Space
from loomax.nas.space.supernet import supernet_config
from loomax.nas.train.choice import empty_memory_of
from loomax.nas.train.config import SupernetTrainConfig
from loomax.nas.train.data.batches import gather
from loomax.nas.train.data.source import Source, open_source
from loomax.nas.train.data.split import Part, split_images
from loomax.nas.train.learner import Learner, to_input
from loomax.nas.train.report import read_config
from loomax.nas.train.score import Scorer
from loomax.nas.train.spaces import space_named
from loomax.nas.train.train import make_scorer
from loomax.runtime.checkpoint import Checkpointer


@dataclass(frozen=True)
class Trained:
    """A supernet as its newest checkpoint left it."""

    config: SupernetTrainConfig
    space: Space
    supernet: SupernetConfig
    source: Source
    params: PyTree

    def scorer(self, part: Part) -> Scorer:
        """Scores nets on one part of the run's images: `scorer.accuracies(params, archs)`."""
        return make_scorer(self.config, self.space, self.source, part)


def open_run(run_dir: str | Path) -> Trained:
    """Reads a run of `loomax nas train`.

    Raises:
        ValueError: the folder holds no such run, it has no checkpoint, or its images are gone.
    """
    run_dir = Path(run_dir)
    config = read_config(run_dir)
    source = open_source(config.data)
    space = space_named(config.space, source.classes)
    learner = Learner(config, supernet_config(space))
    memory = empty_memory_of(space, config.sampler)
    abstract = jax.eval_shape(learner.draw, key=jax.random.key(0)), memory
    kept = Checkpointer(run_dir / "checkpoints").restore(abstract)
    if kept is None:
        raise ValueError(f"{run_dir} has no checkpoint yet: let it train for longer")
    _, (state, _), notes = kept
    if notes["images"] != source.fingerprint:
        raise ValueError(f"the images of {run_dir} have changed since it was trained: restore them")
    return Trained(config, space, learner.supernet, source, state.params)


def evaluator(trained: Trained, part: Part = "validation") -> Callable[[Sequence[Arch]], list]:
    """A function from architectures to accuracies, which are floats; one program serves all.

    Args:
        part: "validation" to choose by, "test" to report.
    """
    return partial(trained.scorer(part).accuracies, trained.params)


def evaluate_arch(trained: Trained, arch: Arch, part: Part = "validation") -> float:
    """Accuracy of one net, normalised by training images."""
    return evaluator(trained, part)([arch])[0]


def extract_network(trained: Trained, arch: Arch) -> Network:
    """The net alone, with the statistics of the run's calibration images."""
    network = build(*extract(trained.supernet, trained.params, encode(trained.space, arch)))
    split = split_images(len(trained.source), trained.config.data)
    numbers = split.train[: trained.config.calibration]
    images = gather(trained.source, numbers, trained.space.resolutions[-1]).images
    calibrate(network, [to_input(jnp.asarray(images), arch.resolution)])
    return network
