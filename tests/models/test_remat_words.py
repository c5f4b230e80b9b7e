"""Which words the model families take for `remat`."""

from dataclasses import replace

import pytest

from loomax.memory.schedule.words import check_policy
from loomax.models.flow_vla.config import debug
from loomax.models.lm.presets import yoco_debug


@pytest.mark.parametrize("family", [debug, yoco_debug])
@pytest.mark.parametrize(
    ("remat", "message"),
    [
        ("ful", "remat is 'ful': .*did you mean full"),
        ("names:atn_out", "remat is 'names:atn_out': .*did you mean attn_out"),
        ("keep:few", "keep needs a count"),
    ],
)
def test_wrong_words_are_refused(family, remat, message):
    with pytest.raises(ValueError, match=message):
        replace(family(), remat=remat)


@pytest.mark.parametrize("family", [debug, yoco_debug])
@pytest.mark.parametrize("remat", ["full", "dots", "keep:2", "names:qkv,attn_out", "offload:qkv"])
def test_right_words_are_taken(family, remat):
    assert replace(family(), remat=remat).remat == remat


@pytest.mark.parametrize(("old", "word"), [(True, "full"), (False, "none")])
def test_what_used_to_be_a_switch_is_answered_with_its_word(old, word):
    # At run time of tests the annotation of a field refuses it first.
    with pytest.raises(ValueError, match=f"remat is {old}: give a word: '{word}'"):
        check_policy(old)
