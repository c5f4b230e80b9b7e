"""A fixed network, and its batch statistics over several batches."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from loomax.models.elastic.deploy.layers import Attention, Convolution, FeedForward, Head, MBConv
from loomax.models.elastic.deploy.spec import (
    AttentionSpec,
    ConvSpec,
    FeedForwardSpec,
    HeadSpec,
    MBConvSpec,
    NetworkSpec,
)
from loomax.models.initialise import Rngs

BLOCKS = {
    ConvSpec: Convolution,
    MBConvSpec: MBConv,
    AttentionSpec: Attention,
    FeedForwardSpec: FeedForward,
    HeadSpec: Head,
}


class Network(nnx.Module):
    """The blocks of a spec in a row."""

    def __init__(self, spec: NetworkSpec, *, rngs: Rngs):
        self.spec = spec
        self.blocks = nnx.List(BLOCKS[type(block)](block, rngs=rngs) for block in spec.blocks)

    def __call__(self, images: Float[Array, "B S S C"], train: bool = False) -> Float[Array, "B K"]:
        """Logits.

        Args:
            train: normalise by the batch's own statistics, and store them.

        Raises:
            ValueError: images of another side.
        """
        if images.shape[1] != self.spec.resolution:
            raise ValueError(f"images of side {images.shape[1]}: give {self.spec.resolution}")
        x = images
        for block in self.blocks:
            x = block(x, train)
        return x


def calibrate(network: Network, batches: Iterable[Float[Array, "B S S C"]]) -> None:
    """Stores the batch statistics over all batches, which have to be of one size, in the network.

    The variance is that of all pixels together: within batches and between their means.

    Raises:
        ValueError: no batches.
    """
    graph, state = nnx.split(network)

    @jax.jit
    def statistics(state, images):
        measured = nnx.merge(graph, state)
        measured(images, train=True)
        norms = [norm for _, norm in nnx.iter_modules(measured) if hasattr(norm, "variance")]
        return [(norm.mean[...], norm.variance[...]) for norm in norms]

    found = [statistics(state, images) for images in batches]
    if not found:
        raise ValueError("calibrate got 0 batches: give at least 1")
    norms = [norm for _, norm in nnx.iter_modules(network) if hasattr(norm, "variance")]
    for norm, of_batches in zip(norms, zip(*found, strict=True), strict=True):
        means, variances = (jnp.stack(rows) for rows in zip(*of_batches, strict=True))
        norm.mean[...] = means.mean(0)
        norm.variance[...] = variances.mean(0) + jnp.square(means - means.mean(0)).mean(0)
