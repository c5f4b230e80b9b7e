"""Accuracy and confidence of subnets on held-out images, normalised by training images.

The batch norms of a supernet take the statistics of their batch. A held-out image must not depend
on its neighbours, so every batch starts with the same training images, which alone give the
statistics: what the extracted network answers after `calibrate` on these images, without compiling
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree, UInt8

from loomax.models.elastic.config import SupernetConfig
from loomax.models.elastic.supernet import apply_supernet
from loomax.nas.space.arch import Arch
from loomax.nas.space.encode import encode
from loomax.nas.space.space import Space
from loomax.nas.train.data.batches import Images
from loomax.nas.train.learner import to_input

MOST = 512  # held-out images of one call


@partial(jax.jit, static_argnames=("supernet", "side"))
def _logits(
    supernet: SupernetConfig,
    params: PyTree,
    sizes: Any,
    calibration: UInt8[Array, "N S S C"],
    images: UInt8[Array, "B S S C"],
    *,
    side: int,
) -> Array:
    both = to_input(jnp.concatenate([calibration, images]), side)
    count = len(calibration)
    return apply_supernet(supernet, params, sizes, both, reference=count)[count:]


@dataclass(frozen=True)
class Scorer:
    """Scores subnets of one space on one set of images.

    Args:
        calibration: training images, see the module.
        held_out: the images that are scored.
    """

    space: Space
    supernet: SupernetConfig
    calibration: UInt8[np.ndarray, "N S S C"]
    held_out: Images = field(repr=False)

    def logits(self, params: PyTree, arch: Arch) -> np.ndarray:
        """Of every held-out image."""
        images, found = self.held_out.images, []
        sizes = encode(self.space, arch)
        rows = min(len(images), MOST)
        for start in range(0, len(images), rows):
            part = images[start : start + rows]
            full = np.pad(part, ((0, rows - len(part)), (0, 0), (0, 0), (0, 0)))
            side = arch.resolution
            out = _logits(self.supernet, params, sizes, self.calibration, full, side=side)
            found.append(np.asarray(out)[: len(part)])
        return np.concatenate(found)

    def accuracy(self, params: PyTree, arch: Arch) -> float:
        """Share of the held-out images that a subnet gets right."""
        return float((self.logits(params, arch).argmax(-1) == self.held_out.labels).mean())

    def confidence(self, params: PyTree, arch: Arch) -> float:
        """Mean probability that a subnet gives the right class."""
        losses = cross_entropies(self.logits(params, arch), self.held_out.labels)
        return float(np.exp(-losses).mean())

    def accuracies(self, params: PyTree, archs: Sequence[Arch]) -> list[float]:
        """`accuracy` of each."""
        return [self.accuracy(params, arch) for arch in archs]


def cross_entropies(logits: np.ndarray, labels: Int[np.ndarray, " B"]) -> np.ndarray:
    """Of each image, nats."""
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return np.log(np.exp(wide).sum(-1)) - np.take_along_axis(wide, labels[:, None], -1)[:, 0]
