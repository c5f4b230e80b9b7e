"""Training the found network on its own, from the supernet's parameters."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from loomax.models.elastic.deploy.network import Network, calibrate
from loomax.nas.train.data.batches import Batches, gather
from loomax.nas.train.data.split import split_images
from loomax.nas.train.evaluate import Trained
from loomax.nas.train.learner import to_input
from loomax.runtime.progress import Progress


@dataclass(frozen=True)
class FinetuneConfig:
    """AdamW (arXiv 1711.05101) along a cosine to 0.

    Args:
        steps: with batches as in the run.
        seed: of the order of the images.

    Raises:
        ValueError: no steps.
    """

    steps: int
    lr: float = 1e-3
    weight_decay: float = 0.05
    smoothing: float = 0.1
    seed: int = 0

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"finetune is {self.steps}: give at least 1 step, or leave it out")


def finetune(
    trained: Trained, network: Network, config: FinetuneConfig, progress: bool = False
) -> Network:
    """The network after training, with the statistics of the run's calibration images."""
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    schedule = optax.cosine_decay_schedule(config.lr, config.steps)
    optimiser = optax.adamw(schedule, weight_decay=config.weight_decay)
    side, classes = network.spec.resolution, trained.source.classes

    def loss(params, images, labels):
        # A copy: statistics change inside, where those from outside may not.
        tuned = nnx.merge(graph, params, rest, copy=True)
        logits = tuned(to_input(images, side), train=True)
        targets = optax.smooth_labels(jax.nn.one_hot(labels, classes), config.smoothing)
        return optax.softmax_cross_entropy(logits, targets).mean()

    @jax.jit
    def step(params, state, images, labels):
        value, gradient = jax.value_and_grad(loss)(params, images, labels)
        updates, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    split = split_images(len(trained.source), trained.config.data)
    largest = trained.space.resolutions[-1]
    batches = Batches(
        trained.source, split.train, trained.config.data, side=largest, seed=config.seed
    )
    state = optimiser.init(params)
    with Progress(config.steps, "fine-tuning", enabled=progress) as bar:
        for _ in range(config.steps):
            images, labels = next(batches)
            params, state, value = step(params, state, jnp.asarray(images), jnp.asarray(labels))
            bar.update(1, loss=value)
    tuned = nnx.merge(graph, params, rest)
    numbers = split.train[: trained.config.calibration]
    known = gather(trained.source, numbers, largest).images
    calibrate(tuned, [to_input(jnp.asarray(known), side)])
    return tuned
