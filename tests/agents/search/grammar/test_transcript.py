"""Tokens and who wrote them."""

import numpy as np
import pytest

from loomax.agents.search.grammar.transcript import Transcript, clip


def test_only_what_the_model_wrote_is_trained_on():
    made = Transcript().add([1, 2], "prompt").add([3], "model").add([], "observation")
    made = made.add([4, 5, 6], "observation").add([7], "model")
    np.testing.assert_array_equal(made.tokens, [1, 2, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(made.written, [0, 0, 1, 0, 0, 0, 1])
    assert len(made) == 7 and made.tokens.dtype == np.int32 and made.written.dtype == bool


def test_a_fork_leaves_its_parent_alone():
    parent = Transcript().add([1], "prompt")
    one, two = parent.add([2], "model"), parent.add([3], "model")
    assert [t.tokens.tolist() for t in (parent, one, two)] == [[1], [1, 2], [1, 3]]
    assert Transcript().tokens.shape == (0,)


def test_a_clipped_observation_still_closes():
    assert clip([1, 2, 3, 4, 9], 5, [9]) == (1, 2, 3, 4, 9)
    assert clip([1, 2, 3, 4, 8, 9], 4, [8, 9]) == (1, 2, 8, 9)
    with pytest.raises(ValueError, match="1 tokens cannot hold the 2"):
        clip([1, 2, 3], 1, [8, 9])
