"""Exact match, as SQuAD defines it (Rajpurkar et al. 2016) and Search-R1 rewards it."""

import re
import string
from collections.abc import Iterable

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and superfluous spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(given: str | None, answers: Iterable[str]) -> bool:
    """Whether an answer is one of those that count; None is a run without an answer."""
    return given is not None and normalise(given) in {normalise(answer) for answer in answers}
