"""Prefill with early exit, later blocks, decoding, ragged rows and drafts against whole rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.lm import commit, empty_cache, prefill

BATCH, LENGTH, SLOTS = 2, 24, 32


@pytest.fixture(scope="module")
def tokens():
    return jax.random.randint(jax.random.key(5), (BATCH, LENGTH), 0, 37)


@pytest.fixture
def expected(full, tokens):
    return np.asarray(full(tokens))


def counts(*values):
    return jnp.array(values, jnp.int32)


def run(step, config, tokens, sizes):
    """The logits after each block of the given sizes."""
    cache, out, start = empty_cache(config, BATCH, SLOTS), [], 0
    for size in sizes:
        block = tokens[:, start : start + size]
        scores, cache = step(cache, block, counts(*[size] * BATCH))
        out.append(np.asarray(scores))
        start += size
    return out, cache


def test_early_exit_prefill_is_the_full_forward(step, config, tokens, expected):
    (scores,), cache = run(step, config, tokens, [LENGTH])
    np.testing.assert_allclose(scores, expected[:, -1], atol=2e-5)
    assert cache.length.tolist() == [LENGTH] * BATCH


def test_later_blocks_leave_early_too(step, config, tokens, expected):
    sizes = [8, 8, 8]
    scores, _ = run(step, config, tokens, sizes)
    for at, got in zip(np.cumsum(sizes) - 1, scores, strict=True):
        np.testing.assert_allclose(got, expected[:, at], atol=2e-5)


def test_decoded_tokens_are_the_full_forward(step, config, tokens, expected):
    scores, _ = run(step, config, tokens, [8] + [1] * (LENGTH - 8))
    got = np.stack(scores[1:], axis=1)
    np.testing.assert_allclose(got, expected[:, 8:], atol=5e-5)


def test_ragged_rows_are_as_if_alone(step, config, tokens, expected):
    """Row 0 has 8 then 3 tokens, row 1 has 5 then 8; padding is of random tokens."""
    cache = empty_cache(config, BATCH, SLOTS)
    noise = jax.random.randint(jax.random.key(9), (BATCH, 8), 0, 37)
    places = np.array([[0, 8], [0, 5]])
    for turn, count in enumerate(((8, 5), (3, 8))):
        block = np.array(noise)
        for row in range(BATCH):
            start = places[row, turn]
            block[row, : count[row]] = tokens[row, start : start + count[row]]
        scores, cache = step(cache, jnp.array(block), counts(*count))
    np.testing.assert_allclose(scores[0], expected[0, 10], atol=2e-5)
    np.testing.assert_allclose(scores[1], expected[1, 12], atol=2e-5)
    assert cache.length.tolist() == [11, 13]


def test_a_row_with_nothing_new_keeps_its_cache(step, config, tokens):
    _, before = run(step, config, tokens, [8])
    _, after = step(before, tokens[:, 8:16], counts(0, 8))
    # Row 0's part of every array, whatever axis its rows are on.
    alone, same = empty_cache(config, 1, SLOTS), []
    for single, old, new in zip(*map(jax.tree.leaves, (alone, before, after)), strict=True):
        axis = next(i for i, n in enumerate(single.shape) if old.shape[i] != n)
        same.append(np.array_equal(*(np.take(np.asarray(x), 0, axis) for x in (old, new))))
    assert all(same)


def test_rejected_drafts_leave_no_trace(step, scores, config, tokens, expected):
    _, cache = run(step, config, tokens, [8])
    drafts = np.array(tokens[:, 8:12])
    drafts[0, 2:] = (drafts[0, 2:] + 1) % 37  # two of row 0 are right, all of row 1
    got, draft = scores(cache, jnp.array(drafts))
    np.testing.assert_allclose(got[0, :2], expected[0, 8:10], atol=2e-5)
    np.testing.assert_allclose(got[1], expected[1, 8:12], atol=2e-5)
    cache = jax.jit(lambda c, d, n: commit(config, c, d, n))(cache, draft, counts(2, 4))
    assert cache.length.tolist() == [10, 12]
    block = jnp.stack([tokens[0, 10:18], tokens[1, 12:20]])
    after, _ = step(cache, block, counts(8, 8))
    np.testing.assert_allclose(after[0], expected[0, 17], atol=2e-5)
    np.testing.assert_allclose(after[1], expected[1, 19], atol=2e-5)


def test_a_prompt_longer_than_the_cache_is_refused(config, params, tokens):
    if config.mixer in ("attention", "mla") or config.cross_layers:
        with pytest.raises(ValueError, match="24 tokens does not fit a cache of 16 slots"):
            prefill(config, params, tokens, slots=16)
