"""One execution for equal calls: sharing, caching, cancellation."""

import asyncio

import pytest

from loomax.agents.search.actions.call import Call
from loomax.agents.search.actions.clock import run_virtual
from loomax.agents.search.actions.server import ActionServer


def call(query="x", **given):
    return Call("look", {"query": query}, **given)


def run(tool, body):
    """Runs `body(server)` in virtual time, and checks that nothing is left running."""

    async def main():
        async with ActionServer([tool]) as server:
            result = await body(server)
        assert len(asyncio.all_tasks()) == 1
        return result

    return run_virtual(main())


def test_equal_calls_share_one_execution(script, tool_of):
    look = script((1.0, "found"))

    async def body(server):
        calls = [call("a"), call(" a "), call("b"), call("a", speculative=True)]
        outcomes = await asyncio.gather(*(server.call(each) for each in calls))
        return outcomes, await server.call(call("a")), server.log

    outcomes, later, log = run(tool_of(look), body)
    assert [outcome.source for outcome in outcomes] == ["run", "shared", "run", "shared"]
    assert all(outcome.ok and outcome.value == "found" for outcome in outcomes)
    assert [outcome.seconds for outcome in outcomes] == pytest.approx([1.0] * 4)
    assert (later.source, later.seconds) == ("cache", 0.0)
    assert len(look.calls) == 2
    assert [log.count(kind) for kind in ("call", "start", "joined", "hit", "done")] == [
        5, 2, 2, 1, 5,
    ]  # fmt: skip


@pytest.mark.parametrize("first", [True, False])
def test_cancelling_one_caller_does_not_disturb_the_other(script, tool_of, first):
    """Whoever started the execution, the one who stays gets the result."""
    look = script((8.0, "found"))

    async def body(server):
        tasks = [asyncio.create_task(server.call(call())) for _ in range(2)]
        await asyncio.sleep(1)
        leaving, staying = tasks if first else tasks[::-1]
        leaving.cancel()
        outcome = await staying
        assert leaving.cancelled()
        return outcome

    outcome = run(tool_of(look), body)
    assert outcome.value == "found" and outcome.seconds == pytest.approx(8)
    assert len(look.calls) == 1 and look.cancelled == 0


def test_when_the_last_caller_leaves_the_execution_ends(script, tool_of):
    look = script((8.0, "found"))

    async def body(server):
        tasks = [asyncio.create_task(server.call(call())) for _ in range(3)]
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.sleep(0)
        assert (look.running, look.cancelled) == (0, 1)
        # A new one runs anew; it does not board what was cancelled.
        return await server.call(call()), server.log

    outcome, log = run(tool_of(look), body)
    assert (outcome.value, outcome.source) == ("found", "run") and len(look.calls) == 2
    assert log.count("cancelled") == 3 and log.count("aborted") == 1


def test_a_caller_may_come_while_the_execution_is_being_cancelled(script, tool_of):
    look = script((8.0, "found"))

    async def body(server):
        leaving = asyncio.create_task(server.call(call()))
        await asyncio.sleep(1)
        leaving.cancel()
        return await server.call(call())

    assert run(tool_of(look), body).value == "found"


def test_a_storm_of_cancellations(script, tool_of):
    """1,000 callers of 10 queries come and go; those that stay get the result of one execution."""
    look = script((5.0, lambda arguments: arguments["query"]))

    async def body(server):
        tasks = [asyncio.create_task(server.call(call(str(n % 10)))) for n in range(1000)]
        for number, task in enumerate(tasks):
            if number % 100 >= 10:
                asyncio.get_running_loop().call_later(number % 7, task.cancel)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        staying = [outcome for number, outcome in enumerate(done) if number % 100 < 10]
        return [outcome.value for outcome in staying], len(server._flights)

    values, left = run(tool_of(look), body)
    assert values == [str(number % 10) for number in range(100)] and left == 0
    assert len(look.calls) == 10


def test_waiting_callers_that_leave_use_up_no_rate(script, tool_of):
    look = script((0.0, "found"))

    async def body(server):
        tasks = [asyncio.create_task(server.call(call(str(n)))) for n in range(500)]
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return await server.call(call("last"))

    outcome = run(tool_of(look, rate_per_s=1.0, burst=1), body)
    assert outcome.ok and outcome.seconds == pytest.approx(0.5) and len(look.calls) == 2


def test_results_get_old_and_failures_are_not_kept(script, tool_of):
    look = script(ValueError("no"), "found", "again")

    async def body(server):
        first = await server.call(call())
        second = await server.call(call())
        await asyncio.sleep(59)
        third = await server.call(call())
        await asyncio.sleep(2)
        return [first, second, third, await server.call(call())]

    outcomes = run(tool_of(look, attempts=1, ttl_s=60.0), body)
    assert [outcome.value for outcome in outcomes] == [None, "found", "found", "again"]
    assert [outcome.source for outcome in outcomes] == ["run", "run", "cache", "run"]


def test_an_empty_result_is_a_result(script, tool_of):
    look = script(((),))

    async def body(server):
        return [await server.call(call()) for _ in range(2)]

    first, second = run(tool_of(look), body)
    assert first.ok and second.ok and first.value == () and second.source == "cache"


def test_a_new_corpus_has_its_own_results(script, tool_of):
    versions = ["v1"]
    look = script((1.0, "old"), (1.0, "new"))

    async def body(server):
        first = await server.call(call())
        versions[0] = "v2"
        second = await server.call(call())
        # Replaced while a search is on its way: nobody knows which corpus has answered.
        under_way = asyncio.create_task(server.call(call("other")))
        await asyncio.sleep(0.5)
        versions[0] = "v3"
        await under_way
        versions[0] = "v2"
        return first.value, second.value, (await server.call(call("other"))).source

    assert run(tool_of(look, version=lambda: versions[0]), body) == ("old", "new", "run")


@pytest.mark.parametrize("safety", ["repeatable", "effect"])
def test_tools_with_effects_are_never_shared(script, tool_of, safety):
    look = script((1.0, "done"))

    async def body(server):
        await asyncio.gather(server.call(call()), server.call(call()))
        await server.call(call())
        return await server.call(call(speculative=True))

    guessed = run(tool_of(look, safety=safety), body)
    assert len(look.calls) == 3
    assert guessed.status == "unsafe" and "only read_only tools are speculated" in guessed.detail
