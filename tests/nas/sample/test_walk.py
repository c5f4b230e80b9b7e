"""The walk over banks against the published rule, step by step."""

from collections import Counter

import pytest

from loomax.nas.sample.walk import BLOCK, bank_at
from loomax.nas.space.draw import generator


def stepwise(seed: int, steps: int, banks: int) -> list[int]:
    """The walk with its state, from the same moves."""
    bank, found = 0, []
    for step in range(steps):
        if step % BLOCK == 0:
            moves = generator(seed, step // BLOCK).integers(-1, 2, size=BLOCK)
        bank = min(max(bank + int(moves[step % BLOCK]), 0), banks - 1)
        found.append(bank)
    return found


@pytest.mark.parametrize("banks", [1, 2, 8])
def test_any_step_is_what_walking_there_gives(banks):
    walked = stepwise(3, 3 * BLOCK + 5, banks)
    for step in [0, 1, 2, 100, BLOCK - 2, BLOCK - 1, BLOCK, 2 * BLOCK, 3 * BLOCK + 4]:
        assert bank_at(3, step, banks) == walked[step]


def test_moves_have_the_published_chances():
    """-1, 0, 1 alike inside; 0, 0, 1 at the first bank and -1, 0, 0 at the last."""
    walked = [bank_at(0, step, 3) for step in range(3 * BLOCK)]
    moves = Counter(zip(walked, walked[1:], strict=False))
    for bank, shares in {0: (2, 1, 0), 1: (1, 1, 1), 2: (0, 1, 2)}.items():
        total = sum(moves[bank, to] for to in range(3))
        assert total > 400
        for to, share in enumerate(shares):
            assert abs(moves[bank, to] / total - share / 3) < 0.08


def test_seeds_walk_apart():
    assert [bank_at(0, step, 8) for step in range(50)] != [
        bank_at(1, step, 8) for step in range(50)
    ]


@pytest.mark.parametrize(("step", "banks"), [(-1, 3), (0, 0)])
def test_bad_steps_are_refused(step, banks):
    with pytest.raises(ValueError, match=f"step is {step} and banks {banks}: give 0 or more"):
        bank_at(0, step, banks)
