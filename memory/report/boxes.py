"""Buffers as boxes: those that can be seen one by one, and a shade for all others. No JAX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loomax.memory.lifetimes.record import Lifetime

LEAST = 1.5  # pixels of a side that can be seen
FAINTEST = 0.25  # opacity of a pixel of which hardly anything is covered


@dataclass(frozen=True)
class Boxes:
    """What is drawn in an area of a picture.

    Args:
        seen: records that are boxes of their own.
        shade: of all others, the mean of their colours, [rows, columns, RGBA], lowest row first.
    """

    seen: list[Lifetime]
    shade: np.ndarray


def split(
    records: Sequence[Lifetime],
    offsets: Mapping[str, int],
    colors: Mapping[str, tuple[float, float, float]],
    limits: tuple[int, int],
    pixels: tuple[int, int],
) -> Boxes:
    """Which records can be seen one by one.

    Args:
        colors: red, green and blue of each record, 0 to 1.
        limits: steps and bytes that the area shows, both above 0.
        pixels: columns and rows of the area.
    """
    columns, rows = pixels
    wide, high = columns / limits[0], rows / limits[1]
    seen, sums = [], np.zeros((rows, columns, 4))
    for record in records:
        if (record.death - record.birth) * wide >= LEAST and record.size * high >= LEAST:
            seen.append(record)
            continue
        low = offsets[record.id]
        x, across = covered(record.birth * wide, record.death * wide, columns)
        y, up = covered(low * high, (low + record.size) * high, rows)
        share = up[:, None, None] * across[None, :, None]
        sums[y : y + len(up), x : x + len(across)] += share * (*colors[record.id], 1.0)
    weight = sums[..., 3:]
    mean = sums[..., :3] / np.where(weight > 0, weight, 1)
    opacity = np.where(weight > 0, FAINTEST + (1 - FAINTEST) * np.minimum(weight, 1), 0)
    return Boxes(seen, np.concatenate([mean, opacity], -1))


def covered(low: float, high: float, count: int) -> tuple[int, np.ndarray]:
    """The first of `count` pixels that [low, high) touches, and its share of this and the next."""
    start = min(int(low), count - 1)
    end = max(min(int(np.ceil(high)), count), start + 1)
    at = np.arange(start, end)
    return start, np.clip(np.minimum(high, at + 1) - np.maximum(low, at), 0, 1)
