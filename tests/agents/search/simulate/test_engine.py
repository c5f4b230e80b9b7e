"""The simulated engine against closed forms."""

import asyncio

import numpy as np
import pytest

from loomax.agents.search.actions.clock import run_virtual
from loomax.agents.search.engine_protocol import Engine, EngineError, Sampling
from loomax.agents.search.simulate.config import EngineConfig
from loomax.agents.search.simulate.engine import SimulatedEngine
from loomax.agents.search.speculate.order import OrderConfig


def script(tokens, sampling):
    """As many tokens as may be, counted from 0."""
    return range(sampling.most), [0.0] * sampling.most


def run(config, body):
    async def main():
        engine = SimulatedEngine(config, script)
        assert isinstance(engine, Engine)
        stepping = asyncio.create_task(engine.run())
        try:
            return await body(engine, asyncio.get_running_loop())
        finally:
            stepping.cancel()

    return run_virtual(main())


async def generate(engine, prefill, decode, kind="main"):
    """One request to its end; gives its tokens."""
    request = await engine.submit([7] * prefill, Sampling(decode), kind=kind)
    try:
        return [token async for piece in request for token in piece.tokens]
    finally:
        engine.abort(request)


async def ends(engine, loop, *jobs):
    """When requests end: (start, prefill, decode, kind) each."""

    async def one(start, prefill, decode, kind="main"):
        await asyncio.sleep(start)
        await generate(engine, prefill, decode, kind)
        return loop.time()

    return await asyncio.gather(*(one(*job) for job in jobs))


def timed(config, *jobs):
    return run(config, lambda engine, loop: ends(engine, loop, *jobs))


def test_one_request_costs_its_chunks_and_tokens():
    """250 tokens in chunks of 100 are three steps, then 7 tokens."""
    config = EngineConfig(lambda d, p: 1.0 + 0.01 * p + 0.5 * d, slots=4, chunk=100)
    (end,) = timed(config, (0.0, 250, 7))
    assert end == pytest.approx(3 * 1.0 + 2.5 + 7 * 1.5)


def test_requests_share_steps():
    config = EngineConfig(lambda d, p: 1.0 + 0.1 * d, slots=4, chunk=100)
    # Together for one step of prefill and 5 of decoding, then one alone for 5.
    found = timed(config, (0.0, 1, 5), (0.0, 1, 10))
    assert found == pytest.approx([1 + 5 * 1.2, 1 + 5 * 1.2 + 5 * 1.1])


def test_a_newcomer_waits_for_the_step_that_is_under_way():
    config = EngineConfig(lambda d, p: 1.0, slots=4, chunk=100)
    # It comes at 3.5, is prefilled from 4 to 5, and decodes until 7.
    found = timed(config, (0.0, 1, 20), (3.5, 1, 2))
    assert found == pytest.approx([21.0, 7.0])


def test_a_request_without_a_slot_waits_and_drafts_go_first():
    config = EngineConfig(lambda d, p: 1.0, slots=1, chunk=100)
    found = timed(config, (0.0, 1, 4), (0.1, 1, 4, "main"), (0.2, 1, 4, "draft"))
    assert found == pytest.approx([5.0, 15.0, 10.0])


def test_who_leaves_frees_the_slot():
    config = EngineConfig(lambda d, p: 1.0, slots=1, chunk=100)

    async def body(engine, loop):
        leaving = asyncio.create_task(generate(engine, 1, 1000))
        waiting = asyncio.create_task(generate(engine, 1, 1000))
        staying = asyncio.create_task(ends(engine, loop, (0.0, 1, 4)))
        await asyncio.sleep(2.5)
        waiting.cancel()
        leaving.cancel()
        assert (await staying) == pytest.approx([3.0 + 5.0])
        return engine.load(), engine.held

    load, held = run(config, body)
    assert (load.running, load.waiting, held) == (0, 0, 0)


def test_steps_that_are_taken_at_once_end_when_single_ones_would():
    rng = np.random.default_rng(0)
    jobs = [
        (float(t), 1, int(n))
        for t, n in zip(rng.random(30) * 40, rng.integers(1, 30, 30), strict=True)
    ]
    config = EngineConfig(lambda d, p: 0.1 + 0.02 * d, slots=3, chunk=8)
    found = timed(config, *jobs)
    assert found == pytest.approx(one_by_one(jobs, 3))


def one_by_one(jobs, slots):
    """Step after step, without asyncio."""
    order = sorted(range(len(jobs)), key=lambda n: jobs[n][0])
    left = {n: [jobs[n][1], jobs[n][2]] for n in order}
    now, running, waiting, end = 0.0, [], list(order), {}
    while len(end) < len(jobs):
        while waiting and len(running) < slots and jobs[waiting[0]][0] <= now + 1e-9:
            running.append(waiting.pop(0))
        if not running:
            now = jobs[waiting[0]][0]
            continue
        decoding = [n for n in running if not left[n][0]]
        now += 0.1 + 0.02 * len(decoding)
        for n in running:
            left[n][0 if left[n][0] else 1] -= 1
        for n in [n for n in running if left[n] == [0, 0]]:
            running.remove(n)
            end[n] = now
    return [end[n] for n in range(len(jobs))]


def test_a_single_slot_is_a_queue():
    """Lindley's recursion: who comes waits for what is left of the one before."""
    rng, service = np.random.default_rng(1), 1.0
    starts = np.cumsum(rng.exponential(size=300) / 0.8)
    config = EngineConfig(lambda d, p: 0.1, slots=1, chunk=10)
    found = np.array(timed(config, *((float(start), 1, 9) for start in starts)))
    waits = [0.0]
    for gap in np.diff(starts):
        waits.append(max(0.0, waits[-1] + service - gap))
    np.testing.assert_allclose(found, starts + waits + service, atol=1e-6)
    assert np.mean(waits) > 0.5


ONE_SECOND = EngineConfig(lambda d, p: 1.0, slots=8, chunk=100)


def test_a_fork_shares_the_prompt_and_waits_for_it():
    """Two steps for the prompt, one for what is forced, three tokens."""

    async def body(engine, loop):
        parent = await engine.submit([7] * 150, Sampling(50))
        child = await engine.fork(parent, [1, 2], Sampling(3))
        tokens = [token async for piece in child for token in piece.tokens]
        end = loop.time()
        return tokens, end, engine.prefilled

    assert run(ONE_SECOND, body) == ([0, 1, 2], 6.0, 152)


def test_a_fork_at_the_end_has_what_was_generated():
    seen = []

    def noting(tokens, sampling):
        seen.append(tokens)
        return script(tokens, sampling)

    async def main():
        engine = SimulatedEngine(ONE_SECOND, noting)
        stepping = asyncio.create_task(engine.run())
        parent = await engine.submit([7, 8], Sampling(2))
        _ = [piece async for piece in parent]
        child = await engine.fork(parent, [9], Sampling(1), at="end", kind="score")
        _ = [piece async for piece in child]
        engine.abort(parent)
        with pytest.raises(EngineError, match="aborted"):
            await engine.fork(parent, [9], Sampling(1))
        stepping.cancel()

    run_virtual(main())
    assert seen == [(7, 8), (7, 8, 0, 1, 9)]


def test_a_fork_outlives_a_parent_that_never_ran():
    async def body(engine, loop):
        parent = await engine.submit([7] * 150, Sampling(50))
        child = await engine.fork(parent, [1], Sampling(3))
        engine.abort(parent)
        _ = [piece async for piece in child]
        return loop.time(), engine.prefilled

    assert run(ONE_SECOND, body) == (5.0, 151)


def test_the_next_turn_prefills_what_is_new():
    async def body(engine, loop):
        first = await engine.submit([7] * 150, Sampling(2))
        _ = [piece async for piece in first]
        await engine.submit([*[7] * 150, 0, 1, 5, 5, 5], Sampling(1), parent=first)
        await asyncio.sleep(5)
        return engine.prefilled

    assert run(ONE_SECOND, body) == 153


def test_the_step_log_adds_up():
    records = []

    async def body(engine, loop):
        engine.watch(records.append)
        await ends(engine, loop, (0.0, 250, 7), (1.5, 3, 40), (2.2, 1, 5, "draft"))
        return loop.time()

    end = run(ONE_SECOND, body)
    assert sum(record.seconds * record.count for record in records) == pytest.approx(end)
    assert sum(record.decoding * record.count for record in records) == 52
    assert sum(record.prefilled for record in records) == 254


def test_nobody_starves_while_drafts_keep_coming():
    """Ageing: a turn waits for no draft that came more than `ageing_s` after it."""
    config = EngineConfig(
        lambda d, p: 1.0, slots=1, chunk=100, order=OrderConfig(ageing_s=20.0, draft_share=1.0)
    )
    # A draft takes 4 s and one comes each 2 s: more than there is time for.
    drafts = [(2.0 * n, 1, 3, "draft") for n in range(100)]
    found = timed(config, *drafts, (1.0, 1, 3, "main"))
    # Ahead of it are the drafts that came before 21 s: eleven of 4 s.
    assert found[-1] == pytest.approx(11 * 4.0 + 4.0)


def test_a_full_cache_gives_drafts_up_first():
    """Room for two turns; the draft goes, then the later turn waits for the first one."""
    config = EngineConfig(lambda d, p: 1.0, slots=8, chunk=1000, cache_tokens=100)

    async def body(engine, loop):
        async def end(decode, kind):
            try:
                await generate(engine, 20, decode, kind)
            except EngineError as error:
                return str(error)
            return loop.time()

        return await asyncio.gather(end(40, "main"), end(60, "draft"), end(50, "main"))

    first, draft, second = run(config, body)
    assert draft == "the cache of 100 tokens has no room for the request"
    # Undisturbed; the other one is taken out, reads its tokens again and goes on.
    assert first == pytest.approx(41.0) and 51.0 < second < 41.0 + 1 + 50


def test_a_prompt_over_the_cache_is_refused():
    config = EngineConfig(lambda d, p: 1.0, cache_tokens=100)

    async def body(engine, loop):
        with pytest.raises(EngineError, match="a prompt of 100 is over the cache's 100"):
            await engine.submit([7] * 100, Sampling(1))
        with pytest.raises(EngineError, match="no room"):
            await generate(engine, 90, 60)
        return engine.held

    assert run(config, body) == 0
