"""Requests of one engine against decoding each of them alone."""

import asyncio

import numpy as np
import pytest

from loomax.agents.search.engine_protocol import Engine as Protocol
from loomax.agents.search.engine_protocol import EngineError, Request, Sampling
from tests.agents.engine.conftest import (
    MODELS,
    SIZES,
    alone,
    engine_of,
    generate,
    leaks,
    read,
    run,
)

RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(0, 37, n).tolist() for n in (1, 5, 23, 40, 9, 30)]


def test_requests_that_run_together_are_as_if_alone(kind):
    """Also: nothing is compiled after the warm-up, nothing leaks, the step log adds up."""
    records = []

    async def body(engine):
        engine.watch(records.append)
        return await asyncio.gather(*(generate(engine, prompt, 12) for prompt in PROMPTS))

    engine = engine_of(kind)
    engine.warm_up()
    traced = engine.device.traced
    found = run(engine, body)
    assert found == [alone(kind, prompt, 12)[0] for prompt in PROMPTS]
    assert engine.device.traced == traced
    assert leaks(engine) == (0, 0)
    assert sum(record.decoding for record in records) == 12 * len(PROMPTS)
    # A prompt of one token is decoded.
    longer = [len(prompt) for prompt in PROMPTS if len(prompt) > 1]
    assert 0 <= sum(longer) - sum(record.prefilled for record in records) <= len(PROMPTS)


def test_forks_share_what_is_computed(kind):
    """From the prompt and from the end, while the parent runs and after it was given up."""
    prompt = PROMPTS[2]

    async def body(engine):
        parent = await engine.submit(prompt, Sampling(9))
        early = await engine.fork(parent, [3, 4], Sampling(6))
        first = await read(parent)
        late = await engine.fork(parent, [5], Sampling(6), at="end", kind="score")
        bare = await engine.fork(parent, [], Sampling(6))
        engine.abort(parent)
        found = [await read(child) for child in (early, late, bare)]
        for child in (early, late, bare):
            engine.abort(child)
        return first, *found

    engine = engine_of(kind)
    first, early, late, bare = (tokens for tokens, _ in run(engine, body))
    assert first == alone(kind, prompt, 9)[0]
    assert early == alone(kind, [*prompt, 3, 4], 6)[0]
    assert late == alone(kind, [*prompt, *first, 5], 6)[0]
    assert bare == first[:6]
    assert leaks(engine) == (0, 0)


def prefilled(engine, body):
    """What a body returns, and how many prompt tokens were read meanwhile."""
    records = []
    engine.watch(records.append)
    return run(engine, body), sum(record.prefilled for record in records)


def test_a_fork_reads_only_what_is_forced(kind):
    async def body(engine):
        parent = await engine.submit(PROMPTS[2], Sampling(9))
        child = await engine.fork(parent, [3, 4], Sampling(2))
        await read(child)

    assert prefilled(engine_of(kind), body)[1] == 23 + 2


def test_the_next_turn_reads_only_what_is_new(kind):
    async def body(engine):
        first = await engine.submit(PROMPTS[2], Sampling(4))
        tokens, _ = await read(first)
        longer = [*PROMPTS[2], *tokens, 7, 8, 9]
        second = await engine.submit(longer, Sampling(3), parent=first)
        engine.abort(first)
        return longer, (await read(second))[0]

    # The last generated token was not computed.
    (longer, found), count = prefilled(engine_of(kind), body)
    assert count == 23 + 1 + 3
    assert found == alone(kind, longer, 3)[0]


def test_the_prefix_cache_serves_who_begins_alike(kind):
    """Pages of 4; a snapshot each 8 tokens, at the ends of chunks of 16."""

    async def body(engine):
        tokens = await generate(engine, PROMPTS[3], 3)
        again = await generate(engine, [*PROMPTS[3][:38], 1, 2], 3)
        return tokens, again

    (tokens, again), count = prefilled(engine_of(kind), body)
    assert tokens == alone(kind, PROMPTS[3], 3)[0]
    assert again == alone(kind, [*PROMPTS[3][:38], 1, 2], 3)[0]
    shared = 36 if MODELS[kind].mixer in ("attention", "mla") else 32
    assert count == 40 + (40 - shared)


def test_what_is_drawn_depends_on_tokens_seed_and_sample_alone():
    """Different company, chunks and order; the same tokens for the same seed."""
    prompt, options = PROMPTS[1], {"temperature": 1.0, "seed": 2**40 + 7}

    async def single(engine):
        return await generate(engine, prompt, 10, **options, sample=2)

    async def crowd(engine):
        others = [generate(engine, other, 10, temperature=2.0, seed=1) for other in PROMPTS]
        samples = [generate(engine, prompt, 10, **options, sample=n) for n in range(4)]
        return (await asyncio.gather(*others, *samples))[-4:]

    one, many = (run(engine_of("gated_retention"), body) for body in (single, crowd))
    assert one == many[2]
    assert len(set(map(tuple, many))) == 4


def test_log_probabilities_are_the_models(kind):
    async def body(engine):
        return await read(await engine.submit(PROMPTS[4], Sampling(6)))

    tokens, logprobs = run(engine_of(kind), body)
    assert (tokens, pytest.approx(logprobs, abs=1e-4)) == alone(kind, PROMPTS[4], 6)


def test_stops_end_an_output_with_the_token_that_completes_them():
    expected = alone("attention", PROMPTS[4], 12)[0]
    letters = "".join(chr(ord("a") + token) for token in expected)
    stop = letters[4:7]
    end = letters.index(stop) + 3

    async def body(engine):
        stopped = await generate(engine, PROMPTS[4], 12, stops=("zzz", stop))
        return stopped

    assert run(engine_of("attention"), body) == expected[:end]


def test_a_halted_request_keeps_its_pages_and_its_state(kind):
    async def body(engine):
        request, tokens = await engine.submit(PROMPTS[1], Sampling(40)), []
        async for piece in request:
            tokens += piece.tokens
            if len(tokens) == 3:
                engine.halt(request)
        child = await engine.fork(request, [2, 6], Sampling(5), at="end")
        held = engine.load()
        child_tokens = (await read(child))[0]
        return tokens, child_tokens, held

    engine = engine_of(kind)
    (tokens, child, held), count = prefilled(engine, body)
    assert tokens == alone(kind, PROMPTS[1], 40)[0][: len(tokens)]
    assert child == alone(kind, [*PROMPTS[1], *tokens, 2, 6], 5)[0]
    assert held.running == 0 and held.free_pages < SIZES.pages
    assert count <= 5 + 3


def test_aborting_frees_the_slot_and_the_pages():
    async def body(engine):
        blocking = [await engine.submit(PROMPTS[1], Sampling(50)) for _ in range(3)]
        waiting = asyncio.create_task(generate(engine, PROMPTS[0], 2))
        async for _ in blocking[0]:
            break
        before = engine.load()
        engine.abort(blocking[1])
        engine.abort(blocking[1])
        found = await waiting
        for request in blocking:
            engine.abort(request)
        return before, found, engine.load()

    engine = engine_of("attention")
    before, found, after = run(engine, body)
    assert (before.running, before.waiting, before.slots) == (3, 1, 3)
    assert found == alone("attention", PROMPTS[0], 2)[0]
    assert (after.running, after.waiting, after.free_pages) == (0, 0, SIZES.pages)
    assert leaks(engine) == (0, 0)


def test_what_cannot_be_taken_is_refused():
    async def body(engine):
        with pytest.raises(EngineError, match="60 tokens and 5 behind it are over the context of"):
            await engine.submit([1] * 60, Sampling(5))
        with pytest.raises(ValueError, match="go from 1 to 37; the vocabulary has 0 to 36"):
            await engine.submit([1, 37], Sampling(5))
        with pytest.raises(ValueError, match="a prompt of 0 tokens"):
            await engine.submit([], Sampling(5))
        request = await engine.submit([1], Sampling(5))
        assert isinstance(request, Request)
        engine.abort(request)
        with pytest.raises(EngineError, match="request 1 is not held here"):
            await engine.fork(request, [1], Sampling(5))

    engine = engine_of("attention")
    assert isinstance(engine, Protocol)
    run(engine, body)


def test_closing_ends_all_requests_with_an_error():
    async def body(engine):
        requests = [await engine.submit(PROMPTS[1], Sampling(50)) for _ in range(5)]
        reading = [asyncio.create_task(read(request)) for request in requests]
        await asyncio.sleep(0)
        await engine.close()
        found = await asyncio.gather(*reading, return_exceptions=True)
        with pytest.raises(EngineError, match="the engine is closed"):
            await engine.submit([1], Sampling(1))
        return [str(error) for error in found]

    engine = engine_of("attention")
    assert run(engine, body) == ["the engine was closed"] * 5
    assert leaks(engine) == (0, 0)


def test_draining_finishes_what_runs_and_takes_no_more():
    async def body(engine):
        request = await engine.submit(PROMPTS[1], Sampling(8))
        draining = asyncio.create_task(engine.drain())
        await asyncio.sleep(0)
        with pytest.raises(EngineError, match="draining and takes no more requests"):
            await engine.submit([1], Sampling(1))
        await draining
        return (await read(request))[0]

    assert run(engine_of("attention"), body) == alone("attention", PROMPTS[1], 8)[0]


def test_a_step_that_breaks_ends_all_requests():
    async def body(engine):
        def broken(work):
            raise RuntimeError("no device")

        engine.device.run = broken
        request = await engine.submit(PROMPTS[1], Sampling(8))
        with pytest.raises(EngineError, match="the engine broke.*no device"):
            await read(request)

    run(engine_of("attention"), body)


def test_the_load_tells_what_runs_and_what_waits():
    """During the steps of more requests than slots, and when nothing is left."""
    seen = []

    async def body(engine):
        engine.watch(lambda record: seen.append((record.decoding, engine.load())))
        before = engine.load()
        kinds = ["main"] * SIZES.slots + ["draft"]
        await asyncio.gather(*(generate(engine, PROMPTS[1], 12, kind=kind) for kind in kinds))
        return before, engine.load()

    before, after = run(engine_of("attention"), body)
    for load in (before, after):
        assert (load.running, load.waiting, load.drafts) == (0, 0, 0)
        assert (load.tokens_per_s, load.slots) == (0.0, SIZES.slots)
    full = [load for _, load in seen if load.running == SIZES.slots]
    assert full and any((load.waiting, load.drafts) == (1, 1) for load in full)
    assert all(load.running <= SIZES.slots for _, load in seen)
    assert all(load.free_pages < before.free_pages for load in full)
    # A rate of tokens, once some were made, for as long as anything runs.
    made = [load for decoding, load in seen if decoding and load.running]
    assert made and all(load.tokens_per_s > 0 for load in made)
