"""Words to ids and back, exactly or not at all."""

import numpy as np
import pytest

from loomax.agents.search.world.documents import document
from loomax.agents.search.world.questions import draw_questions, text_of
from loomax.agents.search.world.vocabulary import prompt_ids
from loomax.models.tokenizer.bpe import BEGIN, END, PAD, Tokenizer


def test_it_is_a_tokenizer_of_the_size_that_its_words_have(vocabulary):
    assert isinstance(vocabulary, Tokenizer)
    # 3 special, 8 tags, 13 words, 3 relations, 40 sizes, 320 halves of names.
    assert vocabulary.vocab_size == 387


def test_the_order_of_words_is_that_of_trained_models(vocabulary):
    """A checkpoint knows words by their ids: whoever changes this line has to train again."""
    ids = (3, 9, 11, 24, 27, 66, 67, 226, 227, 386)
    found = [piece.strip() for piece in vocabulary.pieces(ids)]
    assert found == [
        "<think>", "<answer>", "of", "capital", "0", "39", "Bal", "Zur", "-ban", "-zus",
    ]  # fmt: skip


def test_every_text_of_the_world_comes_back(world, vocabulary):
    texts = [document(world, entity).text for entity in range(50)]
    texts += [text_of(world, question) for question in draw_questions(world, 50, split="train")]
    for text in texts:
        ids = vocabulary.ids(text)
        assert vocabulary.decode(np.array(ids, np.int32)) == text
        assert min(ids) > END and len(ids) == len(text.replace("-", " -").split())


def test_every_id_comes_back(vocabulary):
    for number in range(END + 1, vocabulary.vocab_size):
        (piece,) = vocabulary.pieces([number])
        if not piece.startswith("-"):
            assert vocabulary.id(piece.strip()) == number
    assert vocabulary.decode(np.array([BEGIN, vocabulary.id("39"), END, PAD], np.int32)) == "39"


def test_pieces_join_to_the_text_of_the_whole(world, vocabulary):
    text = f"<search> {world.name(3)} </search>"
    pieces = vocabulary.pieces(vocabulary.ids(text))
    assert len(pieces) == 4 and "".join(pieces) == f" {text}"


def test_padded_ids(vocabulary):
    ids, real = vocabulary.encode("size of", 4)
    assert ids.tolist() == [vocabulary.id("size"), vocabulary.id("of"), PAD, PAD]
    assert real.tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match="text needs 2 tokens, at most 1 fit"):
        vocabulary.encode("size of", 1)


@pytest.mark.parametrize("text", ["size  of", " size", "size\nof", "Bal den", "size -den -den-"])
def test_text_of_another_form_is_refused(vocabulary, text):
    with pytest.raises(ValueError, match="not words with single spaces|not in the vocabulary"):
        vocabulary.ids(text)


@pytest.mark.parametrize("word", ["house", "40", "<pad>", "<end>", "Bal-house"])
def test_unknown_words_are_named(vocabulary, word):
    with pytest.raises(ValueError, match="is not in the vocabulary of 387"):
        vocabulary.ids(f"size of {word}")


def test_ids_out_of_range(vocabulary):
    with pytest.raises(ValueError, match="token id 387 is out of range 0 to 386"):
        vocabulary.decode(np.array([387], np.int32))


def test_a_prompt_begins(vocabulary):
    assert prompt_ids(vocabulary, "size ?") == [BEGIN, vocabulary.id("size"), vocabulary.id("?")]
