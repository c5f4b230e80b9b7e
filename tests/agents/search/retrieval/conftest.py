"""A corpus whose words are drawn, and what BM25 says about it in float64."""

import math
from collections import Counter

import numpy as np
import pytest

from loomax.agents.search.retrieval.document import Document

WORDS = [f"w{number}" for number in range(40)]


@pytest.fixture(scope="session")
def corpus():
    rng = np.random.default_rng(0)
    # Some words are frequent, some rare.
    chance = 1 / np.arange(1, 41)
    drawn = [
        rng.choice(WORDS, size=rng.integers(3, 30), p=chance / chance.sum()) for _ in range(60)
    ]
    return [Document(f"d{i}", f"name-{i}", " ".join(words)) for i, words in enumerate(drawn)]


@pytest.fixture(scope="session")
def reference():
    """BM25 by its formula: scores of all documents for the words of a query."""

    def scores(documents, query, boost=2, k1=1.2, b=0.75):
        texts = [[d.title] * boost + d.text.split() for d in documents]
        mean = sum(map(len, texts)) / len(texts)
        total = np.zeros(len(texts))
        for word in query:
            df = sum(word in text for text in texts)
            idf = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
            for place, text in enumerate(texts):
                tf = Counter(text)[word]
                total[place] += idf * tf / (tf + k1 * (1 - b + b * len(text) / mean)) if df else 0
        return total

    return scores
