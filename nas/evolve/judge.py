"""Scores of a trained supernet's subnets on the three splits of a search.

What is searched for is accuracy, but a few hundred or thousand images tell the accuracies of two
good networks apart by luck. The mean probability of the right class orders them as the accuracy on
other images does, with much less noise (docs/nas.md), so it is the default. A test is of accuracy.
"""

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from loomax.models.elastic.deploy.export import forward
from loomax.models.elastic.deploy.network import Network
from loomax.nas.evolve.config import Measure
from loomax.nas.evolve.exam import Scores
from loomax.nas.space.arch import Arch
from loomax.nas.train.data.batches import Images
from loomax.nas.train.evaluate import Trained
from loomax.nas.train.learner import to_input
from loomax.nas.train.score import Scorer

# Of the run's validation images; the rest validates the front.
SEARCH_SHARE = 2 / 3


def supernet_scores(trained: Trained, measure: Measure = "confidence") -> Scores:
    """Scores subnets without training: search and validation share the run's validation images.

    Args:
        measure: on these two; "confidence" is the mean probability of the right class.

    Raises:
        ValueError: the run has too few validation images.
    """
    scorers = scorers_of(trained)

    def scores(archs: Sequence[Arch], split: str) -> list[float]:
        scorer, confident = scorers[split], measure == "confidence" and split != "test"
        score = scorer.confidence if confident else scorer.accuracy
        return [score(trained.params, arch) for arch in archs]

    return scores


def network_accuracy(trained: Trained, network: Network) -> Scores:
    """The accuracy of one fixed network, whatever the architecture is called."""
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
