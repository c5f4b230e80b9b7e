"""Faults: each becomes an outcome and an event, in time, and disturbs nobody else."""

import asyncio
import json

import pytest

from loomax.agents.search.actions.budget import Budget
from loomax.agents.search.actions.call import Call
from loomax.agents.search.actions.clock import run_virtual
from loomax.agents.search.actions.config import BudgetConfig, DelayConfig
from loomax.agents.search.actions.delay import injected_delay_s
from loomax.agents.search.actions.server import ActionServer
from loomax.agents.search.errors import MalformedOutput, RateLimited, Rejected


def call(query="x", **given):
    return Call("look", {"query": query}, **given)


def outcomes(tool, *calls, gap_s=0.0, **given):
    """Outcomes of calls, one after the other, and the log."""

    async def main():
        async with ActionServer([tool], **given) as server:
            got = []
            for each in calls:
                got.append(await server.call(each))
                await asyncio.sleep(gap_s)
            return got, server.log

    return run_virtual(main())


def only(tool, **given):
    (got,), log = outcomes(tool, call(), **given)
    return got, log


def test_a_slow_tool_times_out_each_time(script, tool_of):
    look = script((100.0, "late"))
    got, log = only(tool_of(look, timeout_s=2.0, attempts=3, deadline_s=60.0, backoff_s=0.0))
    assert (got.status, got.attempts) == ("timeout", 3) and got.seconds == pytest.approx(6)
    assert look.cancelled == 3 and log.count("failed") == 3 and log.count("retry") == 2


def test_the_deadline_cuts_the_last_attempt_short(script, tool_of):
    look = script((100.0, "late"))
    got, _ = only(tool_of(look, timeout_s=4.0, attempts=9, deadline_s=10.0, backoff_s=0.0))
    assert (got.status, got.attempts) == ("timeout", 3) and got.seconds == pytest.approx(10)


def test_a_tool_that_refuses_to_end_is_left_behind(tool_of):
    async def stubborn(arguments):
        for _ in range(20):
            try:
                await asyncio.sleep(50)
            except asyncio.CancelledError:
                pass

    got, log = only(tool_of(stubborn, timeout_s=1.0, attempts=1))
    assert got.status == "timeout" and got.seconds == pytest.approx(1)
    assert log.count("stuck") == 1


def test_a_failure_is_tried_again_after_a_jittered_wait(script, tool_of):
    look = script(RuntimeError("no"), MalformedOutput("<html>"), "found")
    got, log = only(tool_of(look, backoff_s=1.0, backoff_most_s=1.5))
    assert (got.status, got.value, got.attempts) == ("ok", "found", 3)
    assert 0 < look.calls[1] - look.calls[0] <= 1.0 and 0 < look.calls[2] - look.calls[1] <= 1.5
    failed = [event.detail for event in log.events if event.kind == "failed"]
    assert failed == ["error: RuntimeError: no", "malformed: MalformedOutput: <html>"]


def test_the_seed_decides_the_waits(script, tool_of):
    def waits(seed):
        look = script(RuntimeError("no"), RuntimeError("no"), "found")
        only(tool_of(look), seed=seed)
        return look.calls

    assert waits(1) == waits(1) != waits(2)


def test_retry_after_is_kept_to(script, tool_of):
    """Also by calls that were not told."""
    look = script(RateLimited("429", retry_after=7.0), "found")

    async def main():
        async with ActionServer([tool_of(look, backoff_s=0.0)]) as server:
            first = asyncio.create_task(server.call(call("a")))
            await asyncio.sleep(1)
            return [await server.call(call("b")), await first]

    other, first = run_virtual(main())
    assert look.calls[0] == 0 and look.calls[1:] == pytest.approx([7.0, 7.0])
    assert (first.status, first.attempts) == ("ok", 2) and first.seconds == pytest.approx(7)
    assert other.ok and other.seconds == pytest.approx(6)


def test_a_retry_after_beyond_the_deadline_fails_at_once(script, tool_of):
    look = script(RateLimited("429", retry_after=3600.0), "found")
    tool = tool_of(look, backoff_s=0.0, deadline_s=30.0)
    got, log = outcomes(tool, call(), call(), call(), gap_s=150.0)
    assert [each.status for each in got] == ["rate_limited", "rate_limited", "ok"]
    assert got[0].seconds == 0.0 and got[1].seconds == 0.0 and "429" in got[0].detail
    # It asked for an hour; at most five minutes are granted.
    assert look.calls == pytest.approx([0.0, 300.0])


def test_the_rate_limit_spreads_calls(script, tool_of):
    look = script("found")

    async def main():
        async with ActionServer([tool_of(look, rate_per_s=4.0, burst=2)]) as server:
            return await asyncio.gather(*(server.call(call(str(n))) for n in range(6)))

    got = run_virtual(main())
    assert look.calls == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1.0])
    assert all(each.ok for each in got)


def test_who_gets_no_place_in_time_is_told(script, tool_of):
    look = script("found")

    async def main():
        tool = tool_of(look, rate_per_s=1.0, burst=1, deadline_s=2.5)
        async with ActionServer([tool]) as server:
            return await asyncio.gather(*(server.call(call(str(n))) for n in range(5)))

    got = run_virtual(main())
    assert [each.status for each in got] == ["ok"] * 3 + ["rate_limited"] * 2
    assert max(each.seconds for each in got) <= 2.5


def test_guesses_wait_behind_what_is_needed(script, tool_of):
    """Also a guess that has become needed goes ahead of the other guesses."""
    look = script("found")
    order = []

    async def main():
        async with ActionServer([tool_of(look, rate_per_s=1.0, burst=1)]) as server:

            async def ask(query, speculative, at):
                await asyncio.sleep(at)
                await server.call(call(query, speculative=speculative))
                order.append((query, speculative))

            guesses = [ask(str(n), True, 0.0) for n in range(5)]
            needed = [ask("x", False, 0.5), ask("3", False, 1.5)]
            await asyncio.gather(*guesses, *needed)

    run_virtual(main())
    assert [query for query, _ in order] == ["0", "x", "3", "3", "1", "2", "4"]
    assert look.calls == pytest.approx([0, 1, 2, 3, 4, 5])


def test_the_breaker_stops_calls_and_lets_one_try(script, tool_of):
    look = script(*[RuntimeError("down")] * 3, "up")
    tool = tool_of(look, attempts=1, breaker_failures=3, breaker_s=60.0)
    got, _ = outcomes(tool, *(call(str(n)) for n in range(8)), gap_s=16.0)
    down, shut = ["error"] * 3, ["circuit_open"] * 3
    assert [each.status for each in got] == down + shut + ["ok", "ok"]
    assert len(look.calls) == 5 and "keeps failing" in got[3].detail


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (RuntimeError("x"), "error"),
        (TimeoutError("x"), "timeout"),
        (MalformedOutput("x"), "malformed"),
        (RateLimited("x"), "rate_limited"),
        (Rejected("x"), "rejected"),
        (asyncio.CancelledError(), "error"),
        (StopIteration("x"), "error"),
    ],
)
def test_whatever_a_tool_raises_is_an_outcome(script, tool_of, raised, status):
    got, log = only(tool_of(script(raised), attempts=2))
    assert got.status == status and got.value is None
    assert got.attempts == (1 if status == "rejected" else 2)
    assert log.events[-1].detail == f"{status} run"


@pytest.mark.parametrize(
    "raised", [MalformedOutput("shape"), ValueError("shape"), KeyError("hits")]
)
def test_what_the_check_refuses_is_malformed(script, tool_of, raised):
    def check(value):
        raise raised

    got, _ = only(tool_of(script("junk"), attempts=1, check=check))
    assert got.status == "malformed" and type(raised).__name__ in got.detail


def test_an_effect_happens_once_at_most(script, tool_of):
    send = script((100.0, "sent"))
    got, _ = only(tool_of(send, safety="effect", attempts=5, timeout_s=1.0))
    assert (got.status, got.attempts, len(send.calls)) == ("timeout", 1, 1)


def test_calls_that_may_not_run(script, tool_of):
    look = script("found")
    budget = Budget(BudgetConfig(calls=1, speculative=0))
    calls = [
        Call("gone", {}),
        call(float("nan")),
        call(budget=budget),
        call(budget=budget),
        call(budget=budget, speculative=True),
    ]
    got, log = outcomes(tool_of(look), *calls)
    assert [each.status for each in got] == ["unknown_tool", "rejected", "ok", "budget", "budget"]
    assert "there is look" in got[0].detail and "not JSON" in got[1].detail
    assert len(look.calls) == 1 and log.count("refused") == 4


def test_a_version_that_cannot_be_read(script, tool_of):
    def version():
        raise OSError("no index")

    got, _ = only(tool_of(script("found"), version=version))
    assert got.status == "error" and "no index" in got.detail


def test_closing_answers_those_who_wait(script, tool_of):
    look = script((100.0, "late"))

    async def main():
        server = ActionServer([tool_of(look)])
        waiting = asyncio.create_task(server.call(call()))
        await asyncio.sleep(1)
        await server.close()
        return await waiting, await server.call(call())

    waited, later = run_virtual(main())
    assert waited.status == later.status == "closed" and look.cancelled == 1


def test_two_tools_of_one_name(script, tool_of):
    with pytest.raises(ValueError, match="two tools are named 'look'"):
        ActionServer([tool_of(script(1)), tool_of(script(2))])


def test_injected_delays_come_before_each_attempt(script, tool_of):
    config = DelayConfig(median_s=2.0, sigma=0.5, seed=1)
    look = script("found")
    got, log = only(tool_of(look), delay=config)
    key = next(event.key for event in log.events if event.kind == "done")
    assert look.calls[0] == got.seconds == pytest.approx(injected_delay_s(config, key, 0))


def test_the_log_tells_the_story_of_a_call(script, tool_of, tmp_path):
    look = script(RuntimeError("no"), (1.0, "found"))
    _, log = only(tool_of(look))
    kinds = ["call", "start", "attempt", "failed", "retry", "attempt", "end", "done"]
    assert [event.kind for event in log.events] == kinds
    assert [event.time_s for event in log.events] == sorted(e.time_s for e in log.events)
    log.write(tmp_path / "log.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows] == kinds and rows[-1]["detail"] == "ok run"
