"""Batches of images by grain: shuffled anew every epoch, augmented, resumable."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import grain
import numpy as np
from jaxtyping import Int, UInt8

from loomax.nas.train.config import DataConfig
from loomax.nas.train.data.source import Source, cut_out, shifted, whole


class Images(NamedTuple):
    """Images and their classes."""

    images: UInt8[np.ndarray, "B S S C"]
    labels: Int[np.ndarray, " B"]


class Batches:
    """An endless iterator of training batches."""

    def __init__(
        self,
        source: Source,
        numbers: Int[np.ndarray, " N"],
        config: DataConfig,
        *,
        side: int,
        seed: int,
    ):
        """Args: numbers: of the training images; side: of what is given, pixels."""
        photos = config.source not in ("digits", "shapes")

        def augmented(number: int, rng: np.random.Generator) -> dict[str, Any]:
            image, label = source[number]
            if photos:
                image = cut_out(image, side, rng)
            else:
                image = shifted(whole(image, side), config.shift, rng)
            return {"image": np.ascontiguousarray(image), "label": np.int32(label)}

        order = grain.MapDataset.source([int(number) for number in numbers]).seed(seed).shuffle()
        items = order.repeat().random_map(augmented).batch(config.batch)
        ahead = 2 * config.workers
        options = grain.ReadOptions(num_threads=config.workers, prefetch_buffer_size=ahead)
        self._items = iter(items.to_iter_dataset(options))

    def __iter__(self) -> Iterator[Images]:
        return self

    def __next__(self) -> Images:
        item = next(self._items)
        return Images(item["image"], item["label"])

    def state(self) -> dict[str, Any]:
        """Where the iterator stands, as JSON can hold it."""
        return self._items.get_state()

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a state, after JSON too."""
        self._items.set_state(state)


def gather(source: Source, numbers: Int[np.ndarray, " N"], side: int) -> Images:
    """Images with these numbers as they are scored: not augmented."""
    items = [source[int(number)] for number in numbers]
    images = np.stack([whole(item.image, side) for item in items])
    return Images(images, np.asarray([item.label for item in items], np.int32))
