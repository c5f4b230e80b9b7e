"""A fixed network that teaches a supernet from outside."""

from functools import partial
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, UInt8

from loomax.models.elastic.deploy.files import load_network
from loomax.nas.train.learner import to_input


class Teacher:
    """Soft targets of a network in a file.

    Raises:
        ValueError: the file cannot be read, or the network has other classes or channels.
    """

    def __init__(self, path: str, temperature: float, *, classes: int):
        network = load_network(path)
        given = network.spec.blocks[-1].classes
        if given != classes:
            raise ValueError(
                f"distill.teacher {path} tells {given} classes apart: give one of {classes}"
            )
        self._graph, self._state = nnx.split(network)
        self._side, self._temperature = network.spec.resolution, temperature
        self._run = jax.jit(partial(_beliefs, self._graph))

    def __call__(self, images: UInt8[Array, "B S S C"]) -> Float[Array, "B K"]:
        """Probabilities softmax(logits / temperature)."""
        scaled = to_input(images, self._side)
        return self._run(self._state, scaled, self._temperature)


def _beliefs(graph: Any, state: Any, images: Array, temperature: Array) -> Array:
    return jax.nn.softmax(nnx.merge(graph, state)(images) / temperature)
