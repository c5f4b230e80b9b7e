"""Random scenes of solids, as arrays that the ray caster takes. Imports no JAX.

Lengths are metres. A scene is laid out before a camera that looks along y, then turned as a whole:
the light stays where it is, so its direction differs from scene to scene.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from loomax.nas.space.draw import generator

KINDS = ("sphere", "box", "cylinder", "capsule")
# Of a solid of size 1; all four look about as large.
PROPORTIONS = np.array([[0.8, 0, 0], [0.65, 0.65, 0.65], [0.65, 0.65, 0], [0.4, 0.65, 0]])
# Half of the largest extent of the small and the large ones.
SIZES = ((0.55, 0.7), (1.0, 1.2))
CLASSES = len(KINDS) * len(SIZES)
# The floor, the solid in question and one behind it by kind, and the small box before them.
GEOMS = 2 + 2 * len(KINDS)


class Scenes(NamedTuple):
    """B scenes of G geoms, a camera each (`eye`, `view`), and their classes."""

    position: Float[np.ndarray, "B G 3"]
    rotation: Float[np.ndarray, "B G 3 3"]
    size: Float[np.ndarray, "B G 3"]
    rgba: Float[np.ndarray, "B G 4"]
    eye: Float[np.ndarray, "B 3"]
    view: Float[np.ndarray, "B 3 3"]
    exposure: Float[np.ndarray, " B"]
    label: UInt8[np.ndarray, " B"]


def scatter(seed: int, block: int, count: int) -> Scenes:
    """`count` scenes; those of another block are others."""
    rng = generator(seed, block)
    kinds, kind = len(KINDS), rng.integers(len(KINDS), size=count)
    large = rng.integers(len(SIZES), size=count)
    low, high = np.array(SIZES)[large].T
    size = np.zeros((count, GEOMS, 3))
    size[:, 1 : 1 + kinds] = rng.uniform(low, high)[:, None, None] * PROPORTIONS
    size[:, 1 + kinds : -1] = rng.uniform(0.3, 0.8, (count, kinds, 1)) * PROPORTIONS
    size[:, -1] = rng.uniform(0.06, 0.16, (count, 3))

    position = np.zeros((count, GEOMS, 3))
    position[:, 1 : 1 + kinds] = rng.uniform((-0.3, -0.2, 0.8), (0.3, 0.2, 1.1), (count, 1, 3))
    position[:, 1 + kinds : -1] = rng.uniform((-2, 1.3, 0.2), (2, 3, 1.4), (count, kinds, 3))
    position[:, -1] = rng.uniform((-0.3, -2.2, 0.9), (0.3, -1.8, 1.4), (count, 3))

    rgba = np.ones((count, GEOMS, 4))
    rgba[..., :3] = rng.uniform(0.1, 1, (count, GEOMS, 3))
    # A floor of little colour, so that most solids stand out.
    rgba[:, 0, :3] = rng.uniform(0.2, 0.9, (count, 1)) + rng.uniform(-0.1, 0.1, (count, 3))
    rgba[:, 1 : 1 + kinds, 3] = np.arange(kinds) == kind[:, None]
    rgba[:, 1 + kinds : -1, 3] = rng.random((count, kinds)) < 0.3

    spun, leaning = rng.uniform((0, -0.5), (2 * np.pi, 0.5), (count, GEOMS, 2)).T
    rotation = _turns(spun.T, leaning.T)
    rotation[:, 0] = np.eye(3)
    turn = _turns(rng.uniform(0, 2 * np.pi, count), rng.uniform(-0.6, 0.6, count))
    eye, view = _camera(rng.uniform(0.15, 0.45, count))
    found = {
        "position": np.einsum("bij,bgj->bgi", turn, position),
        "rotation": np.einsum("bij,bgjk->bgik", turn, rotation),
        "size": size,
        "rgba": rgba,
        "eye": np.einsum("bij,bj->bi", turn, eye),
        "view": turn @ view,
        "exposure": rng.uniform(0.6, 1.1, count),
    }
    single = {name: value.astype(np.float32) for name, value in found.items()}
    return Scenes(**single, label=(kind + kinds * large).astype(np.uint8))


def _camera(elevation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Four metres from a point above the floor, which it looks at; z points backwards."""
    sine, cosine, zero = np.sin(elevation), np.cos(elevation), np.zeros_like(elevation)
    back = np.stack([zero, -cosine, sine], -1)
    right, up = np.broadcast_to([1.0, 0, 0], back.shape), np.stack([zero, sine, cosine], -1)
    return np.array([0, 0, 0.95]) + 4 * back, np.stack([right, up, back], -1)


def _turns(about: np.ndarray, tilt: np.ndarray) -> np.ndarray:
    """Rotations about z, then about x (radians)."""
    zero, half = np.zeros_like(tilt), 0.5
    first = np.stack([np.cos(half * about), zero, zero, np.sin(half * about)], -1)
    second = np.stack([np.cos(half * tilt), np.sin(half * tilt), zero, zero], -1)
    return _rotations(second) @ _rotations(first)


def _rotations(quaternion: Float[np.ndarray, "*N 4"]) -> Float[np.ndarray, "*N 3 3"]:
    """Rotation matrices of quaternions wxyz of any length."""
    w, x, y, z = np.moveaxis(quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)
