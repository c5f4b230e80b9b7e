"""Draws follow softmax(scores / temperature), and depend on position, not on the block."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from loomax.agents.engine.sampling import choose, choose_each, draws_of
from loomax.agents.search.engine_protocol import Sampling

VOCAB, COUNT = 5, 4000
SCORES = jnp.array([0.3, -1.0, 1.2, 0.0, 0.5])
choose = jax.jit(choose)


def counts_of(samplings, at):
    draws = jax.tree.map(jnp.asarray, draws_of(samplings))
    scores = jnp.broadcast_to(SCORES, (len(samplings), VOCAB))
    tokens, logprobs = choose(scores, jnp.asarray(at, jnp.int32), draws)
    expected = np.log(np.exp(SCORES) / np.exp(SCORES).sum())
    np.testing.assert_allclose(logprobs, expected[np.asarray(tokens)], atol=1e-6)
    return np.bincount(tokens, minlength=VOCAB)


def softmax(temperature):
    weights = np.exp(np.asarray(SCORES, np.float64) / temperature)
    return COUNT * weights / weights.sum()


def test_seeds_samples_and_positions_each_draw_from_the_softmax():
    seeds = [Sampling(1, 0.7, seed=n) for n in range(COUNT)]
    samples = [Sampling(1, 0.7, seed=-5, sample=n) for n in range(COUNT)]
    one = [Sampling(1, 0.7, seed=2**33)] * COUNT
    fixed = np.full(COUNT, 9)
    for samplings, at in ((seeds, fixed), (samples, fixed), (one, np.arange(COUNT))):
        assert stats.chisquare(counts_of(samplings, at), softmax(0.7)).pvalue > 1e-3


def test_rows_without_temperature_are_greedy():
    samplings = [Sampling(1, 0.0, seed=n) for n in range(COUNT - 1)] + [Sampling(1, 5.0)]
    assert counts_of(samplings, np.arange(COUNT))[2] >= COUNT - 1


def test_a_block_draws_what_single_tokens_draw():
    scores = jax.random.normal(jax.random.key(0), (2, 3, VOCAB))
    draws = jax.tree.map(jnp.asarray, draws_of([Sampling(1, 1.0, seed=4), Sampling(1)]))
    tokens, logprobs = choose_each(scores, jnp.array([7, 20]), draws)
    for index in range(3):
        single = choose(scores[:, index], jnp.array([7, 20]) + index, draws)
        np.testing.assert_array_equal(tokens[:, index], single[0])
        np.testing.assert_allclose(logprobs[:, index], single[1], atol=1e-6)


def test_rows_of_one_call_are_drawn_each_by_its_own_temperature():
    """Every other row is greedy; the rest follow the softmax all the same."""
    samplings = [Sampling(1, 0.7 * (n % 2), seed=n) for n in range(2 * COUNT)]
    draws = jax.tree.map(jnp.asarray, draws_of(samplings))
    scores = jnp.broadcast_to(SCORES, (2 * COUNT, VOCAB))
    tokens, _ = choose(scores, jnp.full(2 * COUNT, 9), draws)
    assert set(np.asarray(tokens[::2]).tolist()) == {2}
    found = np.bincount(tokens[1::2], minlength=VOCAB)
    assert stats.chisquare(found, softmax(0.7)).pvalue > 1e-3
