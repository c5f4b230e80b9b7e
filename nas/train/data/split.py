"""Training, validation and test images: parts of one shuffled order. Imports no JAX."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from loomax.nas.space.draw import generator
from loomax.nas.train.config import DataConfig

Part = Literal["train", "validation", "test"]


class Split(NamedTuple):
    """Numbers of images. What is chosen by the validation images is reported on the test ones."""

    train: Int[np.ndarray, " N"]
    validation: Int[np.ndarray, " V"]
    test: Int[np.ndarray, " T"]


def split_images(count: int, config: DataConfig) -> Split:
    """Splits `count` images by the configuration's shares and split seed.

    Raises:
        ValueError: a part would be empty, or a batch larger than the training images.
    """
    order = generator(config.split_seed).permutation(count)
    held, tested = round(count * config.validation), round(count * config.test)
    for name, size in (("validation", held), ("test", tested)):
        if size < 1:
            raise ValueError(
                f"data.{name} is {getattr(config, name)}, which is none of {count} images: raise it"
            )
    train = order[held + tested :]
    if len(train) < config.batch:
        raise ValueError(
            f"data.batch is {config.batch}, but only {len(train)} of {count} images are left to"
            " train on: lower it"
        )
    return Split(train, order[:held], order[held : held + tested])
