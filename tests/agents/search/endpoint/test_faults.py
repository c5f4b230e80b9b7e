"""Endpoints that refuse, break off, answer nonsense or say nothing."""

import asyncio

import httpx
import pytest

from loomax.agents.search.actions.config import ToolConfig
from loomax.agents.search.endpoint.config import EndpointConfig
from loomax.agents.search.endpoint.traffic import Traffic
from loomax.agents.search.engine_protocol import Engine, EngineError, Request, Sampling
from loomax.agents.search.loop.codec import Codec
from loomax.agents.search.speculate.config import PREDICT_VERIFY

DONE = [{"text": "x"}, {"text": "", "finish_reason": "length"}]
FEW = ToolConfig(timeout_s=5.0, deadline_s=30.0, attempts=3, backoff_s=0.5, ttl_s=0.0)


async def read(engine, brain, text="hi"):
    request = await engine.submit(brain.codec.prompt(text), Sampling(8))
    return [token async for piece in request for token in piece.tokens]


def then(*answers):
    """A script that gives its answers in turn, the last one again and again."""
    left = list(answers)
    return lambda body: left.pop(0) if len(left) > 1 else left[0]


async def once(engine, brain, endpoint):
    tokens = await read(engine, brain)
    return tokens, asyncio.get_running_loop().time()


def test_it_is_an_engine(drive):
    async def main(engine, brain, endpoint):
        assert isinstance(engine, Engine) and isinstance(brain.codec, Codec)
        request = await engine.submit((), Sampling(1))
        assert isinstance(request, Request)
        engine.abort(request)

    drive(then(DONE), main)


@pytest.mark.parametrize("answer", [
    httpx.Response(500), httpx.Response(503), httpx.Response(408), httpx.ConnectError("refused"),
    httpx.Response(429), httpx.Response(429, headers={"retry-after": "7"}),
    httpx.Response(503, headers={"retry-after": "7"}),
])  # fmt: skip
def test_what_may_pass_is_tried_again(drive, answer):
    (tokens, seconds), endpoint = drive(then(answer, answer, DONE), once, attempts=FEW)
    assert len(tokens) == 1 and len(endpoint.bodies) == 3
    asked = getattr(answer, "headers", {}).get("retry-after")
    assert seconds >= 14 if asked else 0 < seconds < 1.5


@pytest.mark.parametrize(
    ("answer", "tries", "message"),
    [
        (httpx.Response(400, text='{"error": "too long"}'), 1, "rejected: .*HTTP 400.*too long"),
        (httpx.Response(401), 1, "rejected: .*HTTP 401"),
        (httpx.Response(500), 3, "error: .*HTTP 500"),
        (httpx.Response(429), 3, "rate_limited: .*HTTP 429"),
        (httpx.Response(429, headers={"retry-after": "60"}), 1, "rate_limited: no place"),
        ([..., "never"], 1, "nothing came for 60.0 s"),
        (DONE[:1], 1, "the stream broke off"),
        ([DONE[0], httpx.ReadError("reset")], 1, "the stream broke off: ReadError"),
        (["{half"], 1, "MalformedOutput: JSONDecodeError in the event"),
        (['{"choices": [3]}'], 1, "MalformedOutput: .*Error in the event"),
        ([DONE[0], '{"error": {"message": "overloaded"}}'], 1, "the endpoint: .*overloaded"),
    ],
)
def test_what_does_not_pass_has_a_name(drive, answer, tries, message):
    async def main(engine, brain, endpoint):
        with pytest.raises(EngineError, match=message):
            await read(engine, brain)
        assert engine.load().running == 0

    _, endpoint = drive(then(answer), main, attempts=FEW)
    assert len(endpoint.bodies) == tries


def test_a_server_that_never_answers_is_left(drive):
    async def main(engine, brain, endpoint):
        with pytest.raises(EngineError, match="timeout: no result within 5.000 s"):
            await read(engine, brain)
        return asyncio.get_running_loop().time()

    (seconds), endpoint = drive(then(...), main, attempts=FEW)
    assert 15 < seconds < 18 and len(endpoint.bodies) == 3


def test_the_circuit_opens(drive):
    config = ToolConfig(attempts=1, breaker_failures=2, breaker_s=100.0, ttl_s=0.0)

    async def main(engine, brain, endpoint):
        for message in ("HTTP 500", "HTTP 500", "circuit_open"):
            with pytest.raises(EngineError, match=message):
                await read(engine, brain)

    _, endpoint = drive(then(httpx.Response(500)), main, attempts=config)
    assert len(endpoint.bodies) == 2


def test_a_run_ends_by_the_engines_failure_and_says_why(play):
    run, _, _ = play(then(httpx.Response(500, text="down")), attempts=FEW)
    assert run.end == "engine" and "down" in run.detail


def test_drafts_that_fail_disturb_nobody(play):
    def script(body):
        if "tool_choice" in body:
            return httpx.Response(400, text="no tool_choice here")
        return [{"delta": {"content": "fine"}}, 0.5, {"delta": {}, "finish_reason": "stop"}]

    run, endpoint, _ = play(script, PREDICT_VERIFY)
    assert run.answer == "fine" and len(endpoint.bodies) == 2
    failed = [event for event in run.events if event.kind == "draft_failed"]
    assert len(failed) == 4 and all("no tool_choice here" in event.detail for event in failed)


@pytest.mark.parametrize("parts", [[...], [{"text": "x"}, ...], [{"text": "x"}, 0.1, 50.0]])
def test_who_is_aborted_closes_its_connection(drive, parts):
    async def main(engine, brain, endpoint):
        request = await engine.submit(brain.codec.prompt("hi"), Sampling(8))
        reading = asyncio.create_task(anext(request.__aiter__(), None))
        await asyncio.sleep(1.0)
        assert endpoint.open == 1 and engine.load().running == 1
        engine.abort(request)
        engine.abort(request)
        await reading
        await asyncio.sleep(0.1)
        assert not endpoint.open and engine.load().running == 0

    drive(then(parts), main)


def test_one_of_several_samples_may_go(drive):
    """The connection stays open for the others."""

    def script(body):
        if body["n"] == 1:
            return [...]
        return [{"index": n, "text": f"{n}"} for n in range(3)] + [1.0] + [
            {"index": n, "text": "!", "finish_reason": "length"} for n in range(3)]  # fmt: skip

    async def main(engine, brain, endpoint):
        parent = await engine.submit(brain.codec.prompt("hi"), Sampling(8))
        drafts = [await engine.fork(parent, brain.codec.opening, Sampling(8, float(n), sample=n))
                  for n in range(3)]  # fmt: skip
        await asyncio.sleep(0.5)
        assert engine.load().drafts == 3
        engine.abort(drafts[1])
        engine.abort(parent)

        async def text(request):
            return "".join(brain.codec.words.pieces([t async for p in request for t in p.tokens]))

        return [await text(draft) for draft in drafts]

    texts, endpoint = drive(script, main)
    assert texts == ["0!", "1", "2!"] and endpoint.bodies[1]["n"] == 3
    assert endpoint.bodies[1]["temperature"] == 2.0


def test_drafts_that_are_aborted_at_once_are_never_asked_for(drive):
    async def main(engine, brain, endpoint):
        parent = await engine.submit(brain.codec.prompt("hi"), Sampling(8))
        draft = await engine.fork(parent, brain.codec.opening, Sampling(8))
        engine.abort(draft)
        engine.abort(parent)
        await asyncio.sleep(0.1)

    _, endpoint = drive(then([...]), main)
    assert not [body for body in endpoint.bodies if body["prompt"].endswith("<search>")]


def test_the_load_is_read_from_the_first_token(drive):
    async def main(engine, brain, endpoint):
        loads, traffic = [], Traffic(slots=10, full=3.0)
        assert traffic.load(1, 0).waiting == 0
        for seconds in (1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0,
                        1.0, 1.0, 1.0, 1.0, 1.0):  # fmt: skip
            traffic.first(seconds)
            loads.append(traffic.load(1, 0).waiting)
        traffic.refuse(5.0)
        full = traffic.load(1, 0).waiting
        await asyncio.sleep(5.1)
        return loads, full, traffic.load(1, 0).waiting

    (loads, full, after), _ = drive(then(DONE), main)
    assert loads[:2] == [0, 0] and 3 <= loads[7] <= 5 and loads[9] == 10
    assert loads[-1] <= 1 and (full, after) == (10, loads[-1])


def test_steps_are_the_time_between_events(drive):
    async def main(engine, brain, endpoint):
        steps = []
        engine.watch(steps.append)
        await read(engine, brain)
        return steps

    steps, _ = drive(then([2.0, DONE[0], 0.5, DONE[0], 0.25, *DONE]), main)
    assert [step.seconds for step in steps if step.seconds] == pytest.approx([0.5, 0.25])
    assert all(step.decoding == 1 for step in steps)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": "far"}, "url is 'far'; it must start with http"),
        ({"model": ""}, "model is empty"),
        ({"full": 1.0}, "full 1.0 above 1"),
        ({"slots": 0}, "slots 0 must be at least 1"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        EndpointConfig(**({"url": "http://far/v1", "model": "m"} | changes))
