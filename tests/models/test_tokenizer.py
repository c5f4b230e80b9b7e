"""The embedded tokenizer."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.models.tokenizer import BytePairTokenizer, Tokenizer, default_tokenizer
from loomax.models.tokenizer.bpe import CACHED_LETTERS, MERGES, read_merges, words_of
from loomax.models.tokenizer.train import corpus, train

# Surrogates are no Unicode text: they have no UTF-8 form.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@settings(deadline=None, max_examples=200)
@given(TEXT)
def test_round_trip_of_any_text(text):
    tokenizer = default_tokenizer()
    ids = tokenizer.ids(text)
    assert tokenizer.decode(np.array(ids, np.int32)) == text
    assert all(3 <= i < tokenizer.vocab_size for i in ids)


@settings(deadline=None, max_examples=50)
@given(TEXT)
def test_padding_is_masked_and_vanishes(text):
    tokenizer = default_tokenizer()
    ids, mask = tokenizer.encode(text, 260)
    assert ids.dtype == np.int32 and ids.shape == mask.shape == (260,)
    assert not np.any(ids[~mask]) and mask.sum() == len(tokenizer.ids(text))
    assert tokenizer.decode(ids) == text


def test_instructions_are_short():
    tokenizer = default_tokenizer()
    assert [tokenizer.decode(np.array([i])) for i in tokenizer.ids("pick up the red cube")] == [
        "pick", " up", " the", " red", " cube"
    ]  # fmt: skip
    long = "pick the purple cube and place it on the yellow disc"
    assert len(tokenizer.ids(long)) == len(long.split())


def test_earliest_merge_wins():
    """ "aab" with the merges ab before aa gives a + ab, not aa + b."""
    a, b = 3 + ord("a"), 3 + ord("b")
    tokenizer = BytePairTokenizer([(a, b), (a, a)])
    assert tokenizer.ids("aab") == [a, 259]
    assert tokenizer.ids("aaaa") == [260, 260]


def merged_by_brute_force(word, merges):
    """The definition: as long as a merge applies, the earliest one, everywhere from left to right.

    O(length x merges) a merge.
    """
    ids = [3 + byte for byte in word.encode()]
    while True:
        pairs = set(zip(ids[:-1], ids[1:], strict=True))
        rank = next((rank for rank, pair in enumerate(merges) if pair in pairs), None)
        if rank is None:
            return ids
        place = 0
        while place < len(ids) - 1:
            if (ids[place], ids[place + 1]) == merges[rank]:
                ids[place : place + 2] = [259 + rank]
            place += 1


def some_merges(rng, letters, count):
    """A random table: pairs of any ids before them, none twice."""
    merges = []
    while len(merges) < count:
        known = [3 + ord(letter) for letter in letters] + [259 + n for n in range(len(merges))]
        pair = (rng.choice(known), rng.choice(known))
        if pair not in merges:
            merges.append(pair)
    return merges


@pytest.mark.parametrize("seed", range(20))
def test_merging_is_that_of_the_definition(seed):
    rng = random.Random(seed)
    letters = "ab" if seed % 2 else "abcd"
    merges = some_merges(rng, letters, rng.randint(1, 30))
    tokenizer = BytePairTokenizer(merges)
    for length in [*range(1, 12), 40, 150]:
        word = "".join(rng.choices(letters, k=length))
        assert tokenizer.ids(word) == merged_by_brute_force(word, merges)


def test_the_embedded_merges_are_applied_as_defined():
    rng, merges = random.Random(0), read_merges(MERGES)
    tokenizer = default_tokenizer()
    some = sorted(corpus())[::199] + ["".join(rng.choices("etaoinshé", k=120))]
    for word in some:
        assert tokenizer.ids(word) == [
            i for part in words_of(word) for i in merged_by_brute_force(part, merges)
        ]


class Counted(dict):
    """Counts what is looked up."""

    looked = 0

    def get(self, *args):
        self.looked += 1
        return super().get(*args)


@pytest.mark.parametrize("letters", ["etaoinshrdlu", "a", "ab"])
def test_the_work_grows_with_the_length_of_a_word(letters):
    rng, merges, counts = random.Random(0), read_merges(MERGES), []
    merges += [pair for pair in some_merges(rng, "ab", 60) if pair not in merges]
    tokenizer = BytePairTokenizer(merges)
    tokenizer._ranks = Counted(tokenizer._ranks)
    for length in (2_000, 16_000):
        tokenizer._ranks.looked = 0
        tokenizer.ids("".join(rng.choices(letters, k=length)))
        counts.append(tokenizer._ranks.looked / length)
    assert counts[1] < 1.1 * counts[0] and counts[1] < 6


def test_long_words_are_not_kept():
    tokenizer = BytePairTokenizer([])
    for letter in "abc":
        tokenizer.ids(letter * (CACHED_LETTERS + 1))
    assert tokenizer._remembered.cache_info().currsize == 0
    for _ in range(2):
        tokenizer.ids("a" * CACHED_LETTERS)
    info = tokenizer._remembered.cache_info()
    # About 1.2 kB a word at most.
    assert info.hits == 1 and info.maxsize * CACHED_LETTERS * 50 < 20 * 2**20


def test_an_error_quotes_no_long_text():
    with pytest.raises(ValueError, match="needs 10000 tokens, at most 4 fit") as caught:
        BytePairTokenizer([]).encode("é" * 5000, 4)
    assert len(str(caught.value)) < 300


def test_no_token_is_longer_than_the_longest():
    tokenizer = default_tokenizer()
    sizes = [len(tokenizer.bytes_of(token)) for token in range(1024)]
    assert max(sizes) == tokenizer.longest and sizes[:4] == [0, 0, 0, 1]
    for token in (-1, 1024):
        with pytest.raises(ValueError, match=f"token id {token} is out of range 0 to 1023"):
            tokenizer.bytes_of(token)


def test_begin_token():
    ids, mask = default_tokenizer().encode("pick", 4, begin=True)
    assert ids[0] == 1 and mask.sum() == 2


def test_embedded_table_is_what_training_gives():
    assert read_merges(MERGES) == train(corpus(), 1024 - 259)


def test_bad_input_is_refused():
    tokenizer = default_tokenizer()
    with pytest.raises(ValueError, match=r"needs 5 tokens, at most 4 fit"):
        tokenizer.encode("pick up the red cube", 4)
    with pytest.raises(ValueError, match="id 5000 is out of range"):
        tokenizer.decode(np.array([5000]))
    with pytest.raises(ValueError, match="size 100"):
        BytePairTokenizer([], size=100)


def test_it_satisfies_the_protocol():
    assert isinstance(default_tokenizer(), Tokenizer)
