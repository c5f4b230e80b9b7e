"""The embedded tokenizer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.models.tokenizer import BytePairTokenizer, Tokenizer, default_tokenizer
from loomax.models.tokenizer.bpe import MERGES, read_merges
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
