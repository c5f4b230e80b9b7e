"""Facts hidden in other text, to be repeated later on: rows to learn from, prompts to be scored on.

A fact reads `The key of Oslo is 4821.` It is asked for by its own first words, so that a model
needs no instructions to answer: it has to find the one earlier place that goes on in this way.

Shape letters: T tokens, H tokens of the hay, A tokens of an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from loomax.agents.pretrain.tokens import Encode
from loomax.models.tokenizer.bpe import BEGIN

CITIES = tuple(
    """Accra Algiers Amman Athens Baku Bamako Bangkok Beirut Berlin Bern Bogota Bonn Boston Brasilia
    Cairo Cancun Cardiff Chennai Dakar Dallas Delhi Denver Dhaka Doha Dublin Durban Fresno Galway
    Geneva Genoa Hanoi Harare Havana Jakarta Kabul Kyoto Lagos Lima Lisbon London Lusaka Lyon Madrid
    Malmo Manila Miami Milan Minsk Munich Nairobi Naples Nice Osaka Oslo Ottawa Paris Perth Porto
    Prague Quito Rabat Riga Rome Seoul Sofia Suva Sydney Taipei Tallinn Tampa Tbilisi Tehran Tirana
    Tokyo Tunis Turin Vienna Vilnius Warsaw Zagreb Zurich""".split()
)
NUMBERS = 10_000
# At least so much of a row stays hay, whatever number of facts was drawn.
LEAST_HAY = 0.25


@dataclass(frozen=True)
class Fact:
    """Tokens of the words that ask, and of the answer that follows them."""

    asked: Int[np.ndarray, " T"]
    answer: Int[np.ndarray, " A"]

    @property
    def whole(self) -> Int[np.ndarray, " T"]:
        return np.concatenate([self.asked, self.answer])


class Facts:
    """Draws facts of distinct cities.

    Args:
        encode: text to ids with a token before and one after them, as documents have it.
    """

    def __init__(self, encode: Encode):
        self._encode = encode
        self._cities = [self.tokens(f"\nThe key of {city} is") for city in CITIES]

    def tokens(self, text: str) -> Int[np.ndarray, " T"]:
        """Ids of a part of a document."""
        return self._encode(text)[1:-1]

    def draw(self, count: int, rng: np.random.Generator) -> list[Fact]:
        """`count` facts.

        Raises:
            ValueError: there are fewer cities.
        """
        if not 1 <= count <= len(CITIES):
            raise ValueError(f"{count} needles were asked for; give 1 to {len(CITIES)}")
        cities = rng.permutation(len(CITIES))[:count]
        numbers = rng.integers(NUMBERS, size=count)
        answers = [self.tokens(f" {number:04d}.\n") for number in numbers]
        return [
            Fact(self._cities[city], answer) for city, answer in zip(cities, answers, strict=True)
        ]


def insert(
    hay: Int[np.ndarray, " H"], parts: Sequence[np.ndarray], places: Sequence[int]
) -> Int[np.ndarray, " T"]:
    """The hay with each part put in at its place; places count tokens of the hay."""
    pieces, last = [], 0
    for index in np.argsort(places, kind="stable"):
        pieces += [hay[last : places[index]], parts[index]]
        last = places[index]
    return np.concatenate([*pieces, hay[last:]])


def one(tokens: Int[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """Each token counts 1."""
    return np.ones(len(tokens), np.float32)


class Rewrite:
    """Turns some rows into haystacks: facts anywhere in the row, each again at its end.

    Args:
        share: of the rows that are turned.
        most: facts of a row; as many as fit if that is fewer.
        weight: how much a repeated answer's tokens count.
    """

    def __init__(self, encode: Encode, share: float, most: int, weight: float):
        self._facts, self._share, self._most = Facts(encode), share, most
        self._weight = weight

    def __call__(
        self, row: dict[str, np.ndarray], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """A row of the same length, of one document."""
        tokens, segments = row["tokens"], row["tokens_segment_ids"]
        row = {"tokens": tokens, "tokens_segment_ids": segments, "weights": one(tokens)}
        if rng.random() >= self._share:
            return row
        facts = self._facts.draw(int(rng.integers(1, self._most + 1)), rng)
        used = np.cumsum([2 * len(fact.whole) for fact in facts])
        facts = facts[: int(np.sum(used <= (1 - LEAST_HAY) * len(tokens)))]
        if not facts:
            return row
        hay = tokens[: len(tokens) - int(used[len(facts) - 1])]
        wholes = [fact.whole for fact in facts]
        told = insert(hay, wholes, rng.integers(1, len(hay) + 1, len(facts)).tolist())
        again = [facts[index] for index in rng.permutation(len(facts))]
        weights = [
            part for fact in again for part in (one(fact.asked), self._weight * one(fact.answer))
        ]
        return {
            "tokens": np.concatenate([told, *(fact.whole for fact in again)]).astype(tokens.dtype),
            "tokens_segment_ids": np.ones_like(segments),
            "weights": np.concatenate([one(told), *weights]),
        }


@dataclass(frozen=True)
class Prompt:
    """A haystack of exactly the wanted length, up to the words that ask, and what must follow."""

    tokens: Int[np.ndarray, " T"]
    answer: Int[np.ndarray, " A"]


def prompt(
    facts: Facts,
    hay: Int[np.ndarray, " H"],
    *,
    length: int,
    depth: float,
    needles: int,
    rng: np.random.Generator,
) -> Prompt:
    """A prompt that asks for the fact at `depth`; the other needles lie anywhere.

    Args:
        hay: taken from a random place on, again from its start if it is too short.
        depth: 0 puts the fact at the beginning, 1 right before the question.

    Raises:
        ValueError: the needles leave no room for hay.
    """
    drawn = facts.draw(needles, rng)
    asked = drawn[0].asked
    room = length - 1 - len(asked) - sum(len(fact.whole) for fact in drawn)
    if room < 1:
        raise ValueError(
            f"{needles} needles and a question do not fit {length} tokens; take at least "
            f"{length - room + 1}"
        )
    start = int(rng.integers(len(hay)))
    straw = np.take(hay, np.arange(start, start + room), mode="wrap")
    places = [round(depth * room), *rng.integers(room + 1, size=needles - 1).tolist()]
    told = insert(straw, [fact.whole for fact in drawn], places)
    return Prompt(np.concatenate([[BEGIN], told, asked]).astype(np.int32), drawn[0].answer)
