"""The simulated engine against closed forms."""

import asyncio

import numpy as np
import pytest

from loomax.agents.search.actions.clock import run_virtual
from loomax.agents.search.simulate.config import EngineConfig
from loomax.agents.search.simulate.engine import SimulatedEngine


def run(config, body):
    async def main():
        engine = SimulatedEngine(config)
        stepping = asyncio.create_task(engine.run())
        try:
            return await body(engine, asyncio.get_running_loop())
        finally:
            stepping.cancel()

    return run_virtual(main())


async def ends(engine, loop, *jobs):
    """When requests end: (start, prefill, decode, priority) each."""

    async def one(start, prefill, decode, priority=0):
        await asyncio.sleep(start)
        await engine.generate(prefill, decode, priority=priority)
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


def test_a_request_without_a_slot_waits_and_low_numbers_go_first():
    config = EngineConfig(lambda d, p: 1.0, slots=1, chunk=100)
    found = timed(config, (0.0, 1, 4), (0.1, 1, 4, 0), (0.2, 1, 4, -1))
    assert found == pytest.approx([5.0, 15.0, 10.0])


def test_who_leaves_frees_the_slot():
    config = EngineConfig(lambda d, p: 1.0, slots=1, chunk=100)

    async def body(engine, loop):
        leaving = asyncio.create_task(engine.generate(1, 1000))
        waiting = asyncio.create_task(engine.generate(1, 1000))
        staying = asyncio.create_task(ends(engine, loop, (0.0, 1, 4)))
        await asyncio.sleep(2.5)
        waiting.cancel()
        leaving.cancel()
        assert (await staying) == pytest.approx([3.0 + 5.0])
        return engine.load

    assert run(config, body) == 0


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
