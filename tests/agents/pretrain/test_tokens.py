"""Text to ids, and the bytes behind each id."""

import numpy as np
import pytest

from loomax.agents.pretrain.config import VOCABULARY
from loomax.agents.pretrain.tokens import byte_lengths, encoder
from loomax.models.tokenizer import BytePairTokenizer, default_tokenizer

TEXT = "def lift(cube):\n    return 'Ünïcode'  # pick up the red cube\n"


def test_bytes_are_ids_behind_the_specials():
    np.testing.assert_array_equal(encoder("bytes")("aé"), [1, 3 + 0x61, 3 + 0xC3, 3 + 0xA9, 2])
    np.testing.assert_array_equal(encoder("bytes")(""), [1, 2])


@pytest.mark.parametrize(
    ("name", "table"), [("bytes", BytePairTokenizer([])), ("default", default_tokenizer())]
)
def test_ids_give_the_text_again(name, table):
    ids = encoder(name)(TEXT)
    assert ids.dtype == np.int32
    assert table.decode(ids) == TEXT
    assert table.vocab_size == VOCABULARY[name] == byte_lengths(name).size


@pytest.mark.parametrize("name", VOCABULARY)
def test_byte_lengths_add_up_to_the_text(name):
    lengths = byte_lengths(name)
    assert lengths[encoder(name)(TEXT)].sum() == len(TEXT.encode())
    assert lengths[:3].sum() == 0
