"""Virtual time: it jumps, it does not wait, and it knows when nothing can happen."""

import asyncio

import pytest

from loomax.agents.search.actions.clock import run_virtual


def test_timers_fire_in_order_at_their_times():
    async def main():
        loop, seen = asyncio.get_running_loop(), []

        async def wait(seconds):
            await asyncio.sleep(seconds)
            seen.append((seconds, loop.time()))

        await asyncio.gather(wait(7200.0), wait(1.0), wait(60.0))
        return seen

    seen = run_virtual(main())
    assert [seconds for seconds, _ in seen] == [1.0, 60.0, 7200.0]
    assert all(now == pytest.approx(seconds) for seconds, now in seen)


def test_timeouts_are_virtual_too():
    async def main():
        try:
            async with asyncio.timeout(3600):
                await asyncio.sleep(7200)
        except TimeoutError:
            return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(3600)


def test_a_deadlock_is_an_error():
    async def main():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="nothing would ever happen"):
        run_virtual(main())
