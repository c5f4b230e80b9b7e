"""A small space with made-up latencies and accuracies."""

import pytest

from loomax.nas.oracle.predict import Predictor
from loomax.nas.sample.graph import distinct_blocks
from loomax.nas.space.count import count, macs, params


class Judge:
    """Larger networks are better, with noise that is fixed for each network and split."""

    def __init__(self, space, breaks_after: float = float("inf")):
        self.space, self.asked, self._breaks_after = space, [], breaks_after

    def __call__(self, archs, split):
        found = []
        for arch in archs:
            if len(self.asked) >= self._breaks_after:
                raise KeyboardInterrupt
            self.asked.append((split, arch))
            found.append(self.score(arch, split))
        return found

    def score(self, arch, split="search"):
        size = count(self.space, arch).params
        noise = sum(map(ord, f"{split}{arch}")) % 97 / 97
        return size / (size + 2000) * 0.9 + 0.1 * noise


@pytest.fixture
def latency(spaces) -> Predictor:
    space = spaces["hybrid"]
    prices = {block: 1e-8 * (macs(block) + params(block)) for block in distinct_blocks(space)}
    return Predictor(space, prices, 2e-5, 1.0)


@pytest.fixture
def judge():
    return Judge
