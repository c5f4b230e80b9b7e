"""Labelled images of any origin behind one shape: numbered, decoded when they are asked for."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from loomax.nas.train.config import DataConfig
from loomax.nas.train.data.digits import load_digits
from loomax.nas.train.data.scatter import CLASSES


class Item(NamedTuple):
    """An image of any size, and its class."""

    image: UInt8[np.ndarray, "H W C"]
    label: int


@runtime_checkable
class Source(Protocol):
    """Numbered images.

    Args:
        classes: how many there are.
        fingerprint: of what is held and in which order; a run that is resumed must see the same.
    """

    classes: int
    fingerprint: str

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Item: ...


class DigitSource:
    """The embedded digits."""

    classes = 10
    fingerprint = "digits-1797"

    def __init__(self):
        self._images, self._labels = load_digits()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, number: int) -> Item:
        return Item(self._images[number], int(self._labels[number]))


class ShapeSource:
    """Solids that the ray caster draws, or has drawn before."""

    def __init__(self, images: int):
        # Drawing needs JAX and MuJoCo; other images do not.
        from loomax.nas.train.data.shapes import load_shapes

        held = load_shapes(count=images)
        self._images, self._labels = held
        self.classes, self.fingerprint = CLASSES, held.fingerprint

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, number: int) -> Item:
        return Item(self._images[number], int(self._labels[number]))


def open_source(config: DataConfig) -> Source:
    """The images of a configuration.

    Raises:
        ValueError: there are none, or a file cannot be read (it is named).
    """
    if config.source == "digits":
        return DigitSource()
    if config.source == "shapes":
        return ShapeSource(config.images)
    from loomax.nas.train.data import files

    if config.source == "arrayrecord":
        return files.Records(config.path, config.classes)
    return files.Folder(config.path) if config.source == "folder" else files.TarShards(config.path)


def whole(image: UInt8[np.ndarray, "H W C"], side: int) -> UInt8[np.ndarray, "S S C"]:
    """The square in the middle (7/8 of the shorter edge where it has to be resized)."""
    if image.shape[:2] == (side, side):
        return image
    height, width = image.shape[:2]
    edge = round(min(height, width) * 7 / 8)
    top, left = (height - edge) // 2, (width - edge) // 2
    return _resized(image, (left, top, left + edge, top + edge), side)


def shifted(
    image: UInt8[np.ndarray, "H W C"], most: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W C"]:
    """The image moved by up to `most` pixels down and right, or up and left; black comes in."""
    padded = np.pad(image, ((most, most), (most, most), (0, 0)))
    top, left = rng.integers(0, 2 * most + 1, size=2)
    return padded[top : top + image.shape[0], left : left + image.shape[1]]


def cut_out(
    image: UInt8[np.ndarray, "H W C"], side: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "S S C"]:
    """A random part of 8 to 100 % of the area, sides 3:4 to 4:3, mirrored half of the time.

    The usual augmentation of ImageNet (Szegedy et al., arXiv 1409.4842, section 6).
    """
    height, width = image.shape[:2]
    area = height * width * rng.uniform(0.08, 1)
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    across = min(max(round((area * ratio) ** 0.5), 1), width)
    down = min(max(round((area / ratio) ** 0.5), 1), height)
    left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
    part = _resized(image, (left, top, left + across, top + down), side)
    return part[:, ::-1] if rng.random() < 0.5 else part


def _resized(image: np.ndarray, box: tuple[int, int, int, int], side: int) -> np.ndarray:
    grey = image.shape[-1] == 1
    picture = Image.fromarray(image[..., 0] if grey else image)
    small = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box=box))
    return small[..., None] if grey else small
