"""Prompts: openpi's text, and the same tokens inside a program whatever the state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.flow_vla.prompt import clean, make_prompts, state_bins, state_prompt
from loomax.models.tokenizer import default_tokenizer

TASKS = ("pick up the red cube", "pick_up  the cube\n", "put 3 cups on the plate")


def bins_of(state):
    """openpi's own line (policies/tokenizer), in NumPy."""
    return np.digitize(state, bins=np.linspace(-1, 1, 256 + 1)[:-1]) - 1


def test_bins_are_openpi_s():
    width = 2 / 256
    edges = np.linspace(-1, 1, 257, dtype=np.float32)
    state = [-3.0, -1.0, -1 + 0.9 * width, -1 + 1.1 * width, -1e-9, 0.0, 0.999, 1.0, 2.0, np.nan]
    # A little below each edge (and not so near zero that it would count as zero).
    below = np.nextafter(edges, np.float32(-9))[np.abs(edges) > 0]
    state = np.concatenate([np.array(state, np.float32), edges, below])
    got = jax.jit(state_bins)(jnp.asarray(state))
    assert got[:9].tolist() == [-1, 0, 0, 1, 127, 128, 255, 255, 255]
    np.testing.assert_array_equal(got, bins_of(state))


def test_prompt_text():
    """Double spaces stay; underscores and line breaks become spaces after trimming."""
    assert clean(" pick_up  the\ncube\n") == "pick up  the cube"
    text = state_prompt("pick_up  the cube\n", (-1, 0, 128))
    assert text == "Task: pick up  the cube, State: -1 0 128;\nAction: "


def test_tokens_in_a_program_are_those_of_the_text():
    tokenizer, length = default_tokenizer(), 64
    prompts = make_prompts(tokenizer, TASKS, length=length, state_size=3, vocab=1024)
    rng = np.random.default_rng(0)
    state = rng.uniform(-1.2, 1.2, (60, 3)).astype(np.float32)
    said = rng.integers(0, len(TASKS), 60)
    tokens, mask = jax.jit(prompts.tokens)(jnp.asarray(said), jnp.asarray(state))
    for row in range(60):
        text = state_prompt(TASKS[said[row]], bins_of(state[row]).tolist())
        ids, real = tokenizer.encode(text, length)
        np.testing.assert_array_equal(tokens[row], ids)
        np.testing.assert_array_equal(mask[row], real)


def test_without_a_state_the_instruction_alone_is_said():
    tokenizer = default_tokenizer()
    prompts = make_prompts(tokenizer, TASKS, length=40)
    tokens, mask = prompts.tokens(jnp.array([2, 0]), jnp.zeros((2, 3)))
    for row, index in enumerate((2, 0)):
        ids, real = tokenizer.encode(TASKS[index], 40)
        np.testing.assert_array_equal(tokens[row], ids)
        np.testing.assert_array_equal(mask[row], real)


class Spaceless:
    """Its words reach across spaces, as those of a tokenizer that merges " 12 " may."""

    vocab_size = 4096

    def encode(self, text, max_len):
        ids = [hash(text[i : i + 2]) % 4000 for i in range(0, len(text), 2)]
        out = np.zeros(max_len, np.int32)
        out[: len(ids)] = ids
        return out, np.arange(max_len) < len(ids)

    def decode(self, ids):
        return ""


def test_what_cannot_be_said_is_refused():
    tokenizer = default_tokenizer()
    with pytest.raises(ValueError, match="text_tokens is 20; .* state of 8 numbers .* up to"):
        make_prompts(tokenizer, TASKS, length=20, state_size=8)
    with pytest.raises(ValueError, match="1024 ids and model.vocab is 500"):
        make_prompts(tokenizer, TASKS, length=20, vocab=500)
    with pytest.raises(ValueError, match="Spaceless.* does not cut"):
        make_prompts(Spaceless(), TASKS, length=200, state_size=2)
