"""The walk over complexity banks, by (seed, step) and without state. Imports no JAX.

Nets of adjacent steps come from the same or from neighbouring banks, so that their gradients
agree (arXiv 2303.09730, complexity-aware sampling).
"""

from functools import lru_cache

import numpy as np

from loomax.nas.space.draw import generator

BLOCK = 512  # moves that are drawn, and composed, at once


def bank_at(seed: int, step: int, banks: int) -> int:
    """The bank of a step (from 0): a walk from bank 0 that moves by -1, 0 or 1 before each step.

    At the ends a move outwards stays: 0 and 0 and 1 at bank 0 are equally likely.

    Raises:
        ValueError: `step` is negative or `banks` is below 1.
    """
    if step < 0 or banks < 1:
        raise ValueError(f"step is {step} and banks {banks}: give 0 or more, and 1 or more")
    whole, rest = divmod(step + 1, BLOCK)
    bank = 0
    for block in range(whole):
        shift, low, high = _composed(seed, block, banks)
        bank = min(max(bank + shift, low), high)
    for move in _moves(seed, whole)[:rest].tolist():
        bank = min(max(bank + move, 0), banks - 1)
    return bank


@lru_cache(maxsize=64)
def _moves(seed: int, block: int) -> np.ndarray:
    moves = generator(seed, block).integers(-1, 2, size=BLOCK)
    moves.setflags(write=False)
    return moves


@lru_cache(maxsize=65536)
def _composed(seed: int, block: int, banks: int) -> tuple[int, int, int]:
    """A block of moves as one: x becomes min(max(x + shift, low), high).

    Such maps are closed under composition.
    """
    shift, low, high = 0, 0, banks - 1
    for move in _moves(seed, block).tolist():
        shift += move
        low = min(max(low + move, 0), banks - 1)
        high = min(max(high + move, 0), banks - 1)
    return shift, low, high
