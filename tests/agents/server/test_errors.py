"""Errors: their status, their form, and what they name."""

import httpx
import openai
import pytest

from loomax.agents.search.engine_protocol import EngineError
from loomax.agents.server.config import ServerConfig

SEARCH = {"type": "function", "function": {"name": "search"}}


def post(stage, path="/v1/chat/completions", method="POST", **given):
    return httpx.request(method, stage.url + path, timeout=20.0, **given)


@pytest.mark.parametrize(
    ("changes", "param", "message"),
    [
        ({"top_p": 0.9}, "top_p", "top_p 0.9 is not supported; leave it out or give 1"),
        ({"frequency_penalty": 1}, "frequency_penalty", "leave it out or give 0"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format", "is not supported"),
        ({"logprobs": True, "top_logprobs": 2}, "top_logprobs", "is not supported"),
        ({"service_tier": "flex"}, "service_tier", "is not supported"),
        ({"extra_body": {"top_k": 5}}, "top_k", "top_k 5 is not supported; leave it out or give"),
        ({"extra_body": {"topk": 5}}, "topk", "there is no parameter 'topk'"),
        ({"extra_body": {"echo": 0}}, "echo", "is not supported"),
        ({"n": 17}, "n", "n is 17; it must be a whole number, at least 1, at most 16"),
        ({"temperature": 2.5}, "temperature", "is 2.5; it must be a number from 0 to 2"),
        ({"max_tokens": 0}, "max_tokens", "max_tokens is 0"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens", "contradict"),
        ({"seed": 1.5}, "seed", "seed is 1.5"),
        ({"stop": [""]}, "stop", "stop must be a string or up to 16 strings"),
        ({"stop": ["x"] * 17}, "stop", "stop must be a string or up to 16 strings"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "for stream: true"),
        ({"messages": []}, "messages", "at least one message"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0]", "with a role of"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "has no content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         "messages[0].content", "a part of type 'image_url' is not supported"),
        ({"messages": [{"role": "user", "content": "x", "mood": 1}]}, "messages[0].mood",
         "has no field 'mood'"),
        ({"tool_choice": "required"}, "tool_choice", "tool_choice needs tools"),
        ({"tools": [SEARCH, SEARCH]}, "tools", "two tools have one name"),
        ({"tools": [SEARCH], "tool_choice": {"type": "function", "function": {"name": "go"}}},
         "tool_choice", "names 'go', which is not among the tools"),
        ({"tools": [SEARCH], "tool_choice": "maybe"}, "tool_choice", "tool_choice is 'maybe'"),
    ],
)  # fmt: skip
def test_bad_chats_are_told_why(stage, changes, param, message):
    with pytest.raises(openai.BadRequestError) as caught:
        stage.chat(**changes)
    error = caught.value
    assert message in error.message and error.param == param
    assert error.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"echo": True}, "echo True is not supported"),
        ({"best_of": 2}, "best_of 2 is not supported"),
        ({"suffix": "x"}, "suffix 'x' is not supported"),
        ({"logprobs": 3}, "logprobs is 3; give 0"),
        ({"prompt": ["a"] * 9, "n": 2}, "9 prompts with n 2 are 18 answers; at most 16"),
        ({"prompt": [[5, "a"]]}, "prompt must be a string or token ids"),
        ({"prompt": [5, 5000]}, "token id 5000 is out of range 0 to"),
    ],
)
def test_bad_completions_are_told_why(stage, changes, message):
    with pytest.raises(openai.BadRequestError, match=message):
        stage.complete(**changes)


def test_prompts_over_the_limit_are_refused_with_numbers(stage):
    before, ids = len(stage.engine.seen), [5] * 512
    with pytest.raises(
        openai.BadRequestError, match="has 512 tokens; the context of 512"
    ) as caught:
        stage.complete(ids)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
    with pytest.raises(openai.BadRequestError) as caught:
        stage.complete([5] * 500, max_tokens=20)
    assert "500 tokens and max_tokens is 20: 520 are over the context of 512" in str(caught.value)
    assert "max_tokens of at most 12" in str(caught.value)
    with pytest.raises(openai.BadRequestError, match="641 tokens; the context of 512"):
        stage.chat("word " * 600, stream=True)
    assert len(stage.engine.seen) == before
    assert stage.complete([5] * 500, max_tokens=12).choices


def test_what_is_neutral_is_accepted(stage):
    stage.engine.model = lambda prompt, sampling: "x"
    answer = stage.chat(
        top_p=1, n=1, presence_penalty=0, logit_bias={}, user="me", store=False,
        response_format={"type": "text"}, stop=None,
        extra_body={"top_k": -1, "min_p": 0, "repetition_penalty": 1.0, "ignore_eos": False,
                    "bad_words": [], "prompt_cache_key": "me", "guided_json": None},
    )  # fmt: skip
    assert answer.choices[0].message.content == "x"


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        ({"content": b"{"}, 400, "the body is not JSON"),
        ({"content": b"[]"}, 400, "the body must be a JSON object"),
        ({"path": "/v1/nothing"}, 404, "POST /v1/nothing: Not Found"),
        ({"method": "GET"}, 405, "Method Not Allowed"),
    ],
)
def test_every_error_has_the_same_form(stage, given, status, message):
    answer = post(stage, **given)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert message in error["message"] and set(error) == {"message", "type", "param", "code"}


def test_another_model(stage):
    with pytest.raises(openai.NotFoundError, match="this server has 'toy'") as caught:
        stage.chat(model="gpt")
    assert caught.value.code == "model_not_found"


def test_an_engine_that_gives_up_before_the_first_token_is_overloaded(stage):
    stage.engine.model = lambda prompt, sampling: [EngineError("out of pages")]
    for stream in (True, False):
        with pytest.raises(openai.InternalServerError, match="out of pages") as caught:
            stage.chat(stream=stream)
        assert caught.value.status_code == 503 and caught.value.type == "overloaded_error"
        assert caught.value.response.headers["retry-after"] == "5"


def test_an_engine_that_refuses_is_overloaded(stage):
    stage.engine.refuse = "no slot"
    try:
        with pytest.raises(openai.InternalServerError, match="no slot"):
            stage.chat()
        health = post(stage, "/health", "GET")
        assert health.status_code == 503
        assert health.json() == {"status": "failed", "detail": "no slot"}
    finally:
        stage.engine.refuse = ""


def test_an_engine_that_gives_up_later_ends_the_stream_with_an_error(stage):
    seen = []
    reply = ["one", lambda: len(seen) > 1, EngineError("preempted")]
    stage.engine.model = lambda prompt, sampling: reply
    with pytest.raises(openai.APIError, match="preempted"):
        for chunk in stage.chat(stream=True):
            seen.append(chunk)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in seen) == "one"


def test_a_bug_is_a_500_that_tells_nothing(stage, caplog):
    stage.engine.model = lambda prompt, sampling: [KeyError("secret")]
    with pytest.raises(openai.InternalServerError) as caught:
        stage.chat()
    assert caught.value.status_code == 500 and "secret" not in str(caught.value)
    assert "a request failed" in caplog.text


def test_one_sample_that_fails_ends_the_request(stage):
    def model(prompt, sampling):
        return [EngineError("gone")] if sampling.sample == 1 else ["x", None]

    stage.engine.model = model
    with pytest.raises(openai.InternalServerError, match="gone"):
        stage.chat(n=2)


def test_the_key(start):
    with start(api_key="secret") as stage:
        assert stage.chat().choices[0].message.content == "hello"
        for key in ("wrong", "sécret"):
            answer = post(stage, headers={"Authorization": f"Bearer {key}".encode()}, json={})
            assert answer.status_code == 401
        with pytest.raises(openai.AuthenticationError, match="Authorization: Bearer KEY"):
            stage.connect(api_key="wrong").models.list()
        assert post(stage, json={}).headers["www-authenticate"] == "Bearer"
        assert post(stage, headers={"Authorization": "Basic secret"}, json={}).status_code == 401
        assert post(stage, "/health", "GET").json() == {"status": "ok"}


def test_a_full_queue_is_a_429(start):
    with start(waiting=3, retry_after_s=1) as stage:
        stage.engine.waiting, stage.engine.running = 2, 8
        assert stage.chat().choices
        with pytest.raises(openai.RateLimitError, match="2 requests wait and 2 would") as caught:
            stage.chat(n=2)
        assert caught.value.response.headers["retry-after"] == "1"
        # The client itself comes again when there is room.
        with stage.connect(max_retries=2) as patient:
            stage.engine.waiting = 5
            loads = iter([5, 0])
            stage.engine.load = lambda held=stage.engine.load: (
                setattr(stage.engine, "waiting", next(loads, 0)), held())[1]  # fmt: skip
            answer = patient.chat.completions.create(
                model="toy", messages=[{"role": "user", "content": "x"}]
            )
            assert answer.choices


def test_free_slots_are_no_queue(start):
    """4 of 8 slots are free: 4 samples need no queue, and 2 more may wait."""
    with start(waiting=2) as stage:
        for running, waiting, samples in ((4, 0, 4), (4, 0, 6), (4, 3, 3), (8, 1, 1), (0, 0, 10)):
            stage.engine.running, stage.engine.waiting = running, waiting
            assert len(stage.chat(n=samples).choices) == samples
        for running, waiting, samples in ((4, 0, 7), (4, 3, 4), (8, 2, 1)):
            stage.engine.running, stage.engine.waiting = running, waiting
            with pytest.raises(openai.RateLimitError, match=f"with {8 - running} free slots"):
                stage.chat(n=samples)
        stage.engine.running = stage.engine.waiting = 0
        # It would never fit, so there is no use in coming again.
        with pytest.raises(openai.BadRequestError, match="11 answers are asked for; at most 10"):
            stage.chat(n=11)


def test_long_bodies_are_not_read(start):
    with start(body_bytes=100) as stage:
        answer = post(stage, content=b" " * 101)
        assert (
            answer.status_code == 413
            and "longer than 100 bytes" in answer.json()["error"]["message"]
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ""}, "model is empty"),
        ({"context": 1}, "context is 1; it must be at least 2 tokens"),
        ({"waiting": 0}, "waiting is 0; it must be at least 1"),
        ({"grace_s": -1.0}, "grace_s is -1.0"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ServerConfig(**({"model": "toy", "context": 512} | changes))
