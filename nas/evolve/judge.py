"""Accuracies of a trained supernet's subnets on the three splits of a search."""

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from loomax.models.elastic.deploy.export import forward
from loomax.models.elastic.deploy.network import Network
from loomax.nas.evolve.exam import Accuracy
from loomax.nas.space.arch import Arch
from loomax.nas.train.data.batches import Images
from loomax.nas.train.evaluate import Trained
from loomax.nas.train.learner import to_input
from loomax.nas.train.score import Scorer

# Of the run's validation images; the rest validates the front.
SEARCH_SHARE = 2 / 3


def supernet_accuracy(trained: Trained) -> Accuracy:
    """Scores subnets without training: search and validation share the run's validation images.

    Raises:
        ValueError: the run has too few validation images.
    """
    scorers = scorers_of(trained)

    def accuracy(archs: Sequence[Arch], split: str) -> list[float]:
        return scorers[split].accuracies(trained.params, archs)

    return accuracy


def network_accuracy(trained: Trained, network: Network) -> Accuracy:
    """Scores one fixed network, whatever the architecture is called."""
    scorers, run = scorers_of(trained), forward(network)

    def accuracy(archs: Sequence[Arch], split: str) -> list[float]:
        images, labels = scorers[split].held_out
        logits = run(to_input(jnp.asarray(images), network.spec.resolution))
        return [float((np.asarray(logits).argmax(-1) == labels).mean())] * len(archs)

    return accuracy


def scorers_of(trained: Trained) -> dict[str, Scorer]:
    """For each split, what scores on its images; no image is in two.

    Raises:
        ValueError: the run has too few validation images.
    """
    both = trained.scorer("validation")
    images, labels = both.held_out
    cut = round(len(labels) * SEARCH_SHARE)
    if not 0 < cut < len(labels):
        raise ValueError(
            f"the run has {len(labels)} validation images, too few to search and to validate by:"
            " raise data.validation"
        )
    return {
        "search": replace(both, held_out=Images(images[:cut], labels[:cut])),
        "validation": replace(both, held_out=Images(images[cut:], labels[cut:])),
        "test": trained.scorer("test"),
    }
