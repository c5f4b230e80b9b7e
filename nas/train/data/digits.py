"""Handwritten digits of 8 x 8 pixels, embedded: 1,797 images of ten classes. Imports no JAX.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (test part), UCI Machine
Learning Repository, doi 10.24432/C50P49, CC BY 4.0; the images that scikit-learn's `load_digits`
returns, in its order.
"""

from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8


class Digits(NamedTuple):
    """All images, 0 to 255, and their classes."""

    images: UInt8[np.ndarray, "N 8 8 1"]
    labels: UInt8[np.ndarray, " N"]


@lru_cache
def load_digits() -> Digits:
    """Reads the embedded file, whose pixels are 0 to 16."""
    with (files("loomax.nas.train.data") / "digits.npz").open("rb") as file:
        held = np.load(file)
        # 16 becomes 255.
        images = held["images"].astype(np.uint16) * 255 // 16
        return Digits(images.astype(np.uint8)[..., None], held["labels"])
