"""Endpoints that refuse a parameter are asked without it, once for each, and for good."""

import json

import httpx
import pytest

from loomax.agents.search.endpoint.refusals import refused
from loomax.agents.search.engine_protocol import EngineError, Sampling

DONE = [{"text": "x", "finish_reason": "length"}]


def refuse(message, param=None, status=400):
    return httpx.Response(status, text=json.dumps({"error": {"message": message, "param": param}}))


def picky(refusals):
    """Refuses what a request holds of `refusals`: name to message, in order."""

    def script(body):
        for name, message in refusals.items():
            if name in body:
                return refuse(message)
        return DONE

    return script


async def twice(engine, brain, endpoint):
    for _ in range(2):
        request = await engine.submit(brain.codec.prompt("hi"), Sampling(8))
        assert [piece async for piece in request]


def test_each_refused_parameter_costs_one_request_and_is_remembered(drive):
    script = picky({
        "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead.",
        "temperature": "Unsupported value: 'temperature' does not support 0 with this model.",
        "logprobs": "logprobs are not available",
    })  # fmt: skip
    _, endpoint = drive(script, twice)
    assert len(endpoint.bodies) == 3 + 2
    for body in endpoint.bodies[-2:]:
        assert body["max_completion_tokens"] == 7
        assert not {"max_tokens", "temperature", "logprobs"} & set(body)
        assert body["model"] == "m" and body["stream"] and "seed" in body


def test_both_names_of_the_limit_may_be_refused(drive):
    limits = ("max_tokens", "max_completion_tokens")
    script = picky({name: f"no {name}, perhaps {limits[0]} or {limits[1]}" for name in limits})
    _, endpoint = drive(script, twice)
    assert len(endpoint.bodies) == 2 + 2 and not set(limits) & set(endpoint.bodies[-1])


def test_a_refusal_of_something_else_is_not_asked_again(drive):
    async def main(engine, brain, endpoint):
        with pytest.raises(EngineError, match="HTTP 400.*the prompt"):
            [piece async for piece in await engine.submit(brain.codec.prompt("hi"), Sampling(8))]

    _, endpoint = drive(lambda body: refuse("the prompt is not good"), main)
    assert len(endpoint.bodies) == 1


def test_who_refuses_everything_is_left(drive):
    async def main(engine, brain, endpoint):
        with pytest.raises(EngineError, match="HTTP 400"):
            [piece async for piece in await engine.submit(brain.codec.prompt("hi"), Sampling(8))]

    names = "max_tokens max_completion_tokens logprobs temperature seed stop model prompt"
    _, endpoint = drive(lambda body: refuse(names), main)
    assert len(endpoint.bodies) <= 6


@pytest.mark.parametrize(
    ("status", "text", "name"),
    [
        (400, '{"error": {"message": "temperature? no", "param": "seed"}}', "seed"),
        (422, '{"detail": [{"loc": ["body", "seed"], "msg": "extra"}]}', "seed"),
        (400, "Unrecognized request argument supplied: logprobs", "logprobs"),
        (400, "bad: top_logprobs", None),
        (400, "maximum context length is 256 tokens, you asked for 9 (max_tokens)", None),
        (500, "temperature", None),
        (401, "temperature", None),
        (400, "[" * 100_000, None),
    ],
)
def test_what_is_refused(status, text, name):
    body = {"temperature": 0, "seed": 1, "logprobs": True, "max_tokens": 3}
    assert refused(body, status, text) == name


def test_what_is_left_unset_is_not_sent(drive):
    _, endpoint = drive(lambda body: DONE, twice, logprobs=False, temperature=False, limit="none")
    left = {"logprobs", "temperature", "max_tokens", "max_completion_tokens"}
    assert not left & set(endpoint.bodies[0])


def test_a_long_error_is_not_read_to_its_end(drive):
    async def main(engine, brain, endpoint):
        with pytest.raises(EngineError) as caught:
            [piece async for piece in await engine.submit(brain.codec.prompt("hi"), Sampling(8))]
        assert len(str(caught.value)) < 500

    drive(lambda body: httpx.Response(400, text="x" * 10**6), main)
