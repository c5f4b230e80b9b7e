"""A vision stem for small CPUs: matrix products and spatial-softmax key points.

An image is cut into small patches, each described by a two-layer perceptron. Every key point is a
softmax over the cells of that grid: its expected position and pooled features become one token.
Position and features together give sub-cell precision, since a linear offset of the features is
a linear function of the pooled features. Some key points take their query from the instruction,
which finds the named object in one step. (Overlapping windows of twice the side were measured to
be no more precise and three times as slow.)

(Spatial softmax: Levine et al. 2016, End-to-End Training of Deep Visuomotor Policies.)

Shape letters: B batch, S image side, G cells a side, F features, P key points, W token width.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from loomax.models.initialise import Rngs, normal
from loomax.models.layers import Dense, gelu


@dataclass(frozen=True)
class KeypointShape:
    """Sizes of one stem.

    Args:
        size: image side, a multiple of `stride`, the side of a cell.
        learned, asked: key points with learned queries and with queries from the instruction.
        width: of the tokens; text: of the instruction's summary.
    """

    size: int
    stride: int
    features: int
    learned: int
    asked: int
    width: int
    text: int

    def __post_init__(self):
        if self.size % self.stride:
            raise ValueError(
                f"image side {self.size} is no multiple of the stride {self.stride}; change one"
            )

    @property
    def cells(self) -> int:
        return self.size // self.stride

    @property
    def tokens(self) -> int:
        return self.learned + self.asked


def cell_centres(cells: int) -> Float[np.ndarray, "C 2"]:
    """(x, y) of every cell in [-1, 1], row by row."""
    line = (np.arange(cells) + 0.5) / cells * 2 - 1
    y, x = np.meshgrid(line, line, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32)


def cut(image: Array, stride: int) -> Array:
    """Square patches [B, C, 3 stride^2] of images [B, S, S, 3], row by row."""
    batch, cells = image.shape[0], image.shape[1] // stride
    blocks = image.reshape(batch, cells, stride, cells, stride * 3).swapaxes(2, 3)
    return blocks.reshape(batch, cells * cells, stride * stride * 3)


class KeypointStem(nnx.Module):
    """Parameters of one camera's stem."""

    def __init__(self, shape: KeypointShape, *, rngs: Rngs):
        f, cells = shape.features, shape.cells**2
        self.shape = shape
        self.patch = Dense(3 * shape.stride**2, f, rngs=rngs)
        self.place = nnx.Param(normal(rngs, (cells, f), 0.02))
        self.mix = Dense(f, f, rngs=rngs)
        self.queries = nnx.Param(normal(rngs, (f, shape.learned), f**-0.5))
        self.bias = nnx.Param(normal(rngs, (cells, shape.tokens), 0.02))
        self.out = Dense(f + 2, shape.width, rngs=rngs)
        self.names = nnx.Param(normal(rngs, (shape.tokens, shape.width), 0.02))
        if shape.asked:
            self.ask = Dense(shape.text, shape.asked * f, rngs=rngs)

    def __call__(
        self, image: Float[Array, "B S S 3"], text: Float[Array, "B E"]
    ) -> Float[Array, "B P W"]:
        """Tokens of an image in [-1, 1]; `text` is a fixed-size summary of the instruction."""
        cells = describe(self, image)
        logits = keypoint_logits(self, cells, text)
        weights = jax.nn.softmax(logits.astype(jnp.float32), axis=-1).astype(cells.dtype)
        grid = jnp.asarray(cell_centres(self.shape.cells), cells.dtype)
        pooled = jnp.einsum("bpg,bgf->bpf", weights, cells)
        found = jnp.concatenate([weights @ grid, pooled], axis=-1)
        return self.out(found) + self.names[...].astype(cells.dtype)


def describe(stem: KeypointStem, image: Array) -> Float[Array, "B C F"]:
    """Features of every cell."""
    x = stem.patch(cut(image, stem.shape.stride))
    x = gelu(x + stem.place[...].astype(x.dtype))
    return gelu(stem.mix(x))


def keypoint_logits(stem: KeypointStem, cells: Array, text: Array) -> Float[Array, "B P C"]:
    """Learned key points first, then those whose query the instruction gives."""
    logits = jnp.einsum("bgf,fp->bpg", cells, stem.queries[...].astype(cells.dtype))
    if stem.shape.asked:
        asked = stem.ask(text).reshape(text.shape[0], stem.shape.asked, -1)
        logits = jnp.concatenate([logits, jnp.einsum("bpf,bgf->bpg", asked, cells)], axis=1)
    return logits + stem.bias[...].astype(cells.dtype).T


def spread_over_cells(xy: Float[Array, "*B 2"], cells: int) -> Float[Array, "*B C"]:
    """Bilinear weights of the cells around a point, so that their mean position is the point.

    Points outside the outermost cell centres are moved onto them.
    """
    place = jnp.clip((xy + 1) / 2 * cells - 0.5, 0.0, cells - 1.0)
    distance = jnp.abs(place[..., None] - jnp.arange(cells))
    x, y = jnp.moveaxis(jnp.maximum(1 - distance, 0.0), -2, 0)
    return (y[..., :, None] * x[..., None, :]).reshape(*xy.shape[:-1], cells * cells)
