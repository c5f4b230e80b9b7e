"""Guesses change nothing but how many steps there are."""

import asyncio
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from loomax.agents.engine.config import SpeculativeConfig
from loomax.agents.engine.speculative.ngram import Lookup
from loomax.agents.engine.speculative.verify import accepted_of
from loomax.models.lm import create, logits
from tests.agents.engine.conftest import (
    MODELS,
    SIZES,
    alone,
    engine_of,
    generate,
    leaks,
    params_of,
    run,
)

RNG = np.random.default_rng(1)
# Looking up finds something in what repeats itself.
PROMPTS = [[*RNG.integers(0, 37, 4).tolist() * 4, *RNG.integers(0, 37, n)] for n in (0, 1, 2, 7)]
PROMPTS = [[int(token) for token in prompt] for prompt in PROMPTS]


def test_a_lookup_is_the_newest_longest_match():
    """Against a search from the end, while a random sequence of three letters grows."""
    tokens, lookup = [], Lookup(1, 3)
    for token in RNG.integers(0, 3, 200).tolist():
        tokens.append(token)
        expected = []
        for size in (1, 2, 3):
            ends = [
                end
                for end in range(size, len(tokens))
                if tokens[end - size : end] == tokens[-size:] and len(tokens) >= size
            ]
            expected = tokens[ends[-1] : ends[-1] + 4] if ends else expected
        assert lookup.guess(tokens, 4) == expected


def test_guesses_stand_up_to_the_first_wrong_one():
    tokens = jnp.array([[9, 1, 2, 3]] * 5)
    chosen = jnp.array([[1, 2, 3, 4], [1, 0, 3, 4], [0, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    count = jnp.array([4, 4, 4, 2, 0])
    assert accepted_of(tokens, chosen, count).tolist() == [4, 2, 1, 2, 0]


KIND = "gated_retention"
# Other parameters: its guesses are sometimes right.
OTHER = create(MODELS[KIND], key=jax.random.key(9))


@pytest.mark.parametrize(
    ("drafter", "kind", "small"),
    [
        ("ngram", "attention", None),
        ("self", KIND, None),
        ("model", KIND, (MODELS[KIND], OTHER)),
        pytest.param("self", "attention", None, marks=pytest.mark.slow),
        pytest.param("self", "gated_deltanet", None, marks=pytest.mark.slow),
        pytest.param(
            "model", KIND, (MODELS["attention"], params_of("attention")), marks=pytest.mark.slow
        ),
    ],
)
def test_tokens_are_the_same_with_and_without_guesses(drafter, kind, small):
    """Greedy and drawn ones, ragged rows, outputs that end at different times."""

    async def body(engine):
        greedy = [generate(engine, prompt, 9 + n) for n, prompt in enumerate(PROMPTS)]
        drawn = [generate(engine, prompt, 9, temperature=0.5, seed=3) for prompt in PROMPTS]
        return await asyncio.gather(*greedy, *drawn)

    engine = engine_of(kind, guessing(drafter), drafter=small)
    engine.warm_up()
    traced = engine.device.traced
    found = run(engine, body)
    assert found[:4] == [alone(kind, prompt, 9 + n)[0] for n, prompt in enumerate(PROMPTS)]
    assert engine.device.traced == traced
    assert found[4:] == run(engine_of(kind), body)[4:]
    assert leaks(engine) == (0, 0)
    assert engine.scheduler.guessed > engine.scheduler.accepted > 0


def guessing(drafter):
    return replace(SIZES, speculative=SpeculativeConfig(drafter, tokens=3))


def test_a_model_that_guesses_for_itself_is_always_right():
    """Also where tokens are drawn: both draw with the noise of the position."""

    async def body(engine):
        options = {"temperature": 1.0, "seed": 5}
        return await asyncio.gather(*(generate(engine, p, 13, **options) for p in PROMPTS[:3]))

    engine = engine_of(KIND, guessing("model"), drafter=(MODELS[KIND], params_of(KIND)))
    found = run(engine, body)
    assert found == run(engine_of(KIND), body)
    assert engine.scheduler.guessed == engine.scheduler.accepted >= 3 * 9


def test_outputs_follow_the_models_distribution():
    """The first two drawn tokens that guesses are made for, against their exact probabilities."""
    prompt, count, temperature = [3, 1, 4] * 5, 400, 1.5
    pairs = list(np.ndindex(37, 37))
    heads = jnp.array([[*prompt, *pair] for pair in pairs])
    scores = jax.jit(partial(logits, MODELS[KIND]))(params_of(KIND), heads)
    chances = np.exp(np.asarray(scores[:, -3:], np.float64) / temperature)
    chances = (chances / chances.sum(-1, keepdims=True)).reshape(37, 37, 3, 37)
    first = chances[0, 0, 0]
    both = first[:, None] * chances[:, 0, 1]
    expected = (both.sum(0), np.einsum("ab,abc->c", both, chances[:, :, 2]))

    async def body(engine):
        jobs = (generate(engine, prompt, 4, temperature=temperature, seed=n) for n in range(count))
        return np.array(await asyncio.gather(*jobs))

    engine = engine_of(KIND, guessing("model"), drafter=(MODELS[KIND], OTHER))
    found = run(engine, body)
    # The first token comes with the prompt; the next ones from steps that verify guesses.
    for at, chance in zip((1, 2), expected, strict=True):
        seen = np.bincount(found[:, at], minlength=37)
        assert stats.chisquare(seen, count * chance).pvalue > 1e-3
    assert engine.scheduler.guessed > engine.scheduler.accepted > 50
