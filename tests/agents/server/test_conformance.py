"""What OpenAI's own client reads from the server."""

import json
import math

import httpx
import openai
import pytest

from tests.agents.server.conftest import HALF

SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Finds documents.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
    },
}
CALL = '<tool_call>\n{"name": "search", "arguments": {"query": "a \\"b\\" {c}"}}\n</tool_call>'


@pytest.fixture
def says(stage):
    """Sets what the model answers."""

    def says(reply):
        stage.engine.model = reply if callable(reply) else lambda prompt, sampling: reply
        return stage

    return says


def test_a_chat(says):
    stage = says("Grüße, 世界!")
    answer = stage.chat("hällo", temperature=0, seed=3, max_tokens=40)
    (choice,) = answer.choices
    assert choice.message.content == "Grüße, 世界!" and choice.message.role == "assistant"
    assert choice.finish_reason == "stop" and answer.object == "chat.completion"
    prompt = "<|im_start|>user\nhällo<|im_end|>\n<|im_start|>assistant\n"
    request = stage.engine.seen[-1]
    assert stage.engine.text(request) == prompt and request.tokens[0] == 1
    sampling = request.sampling
    assert (sampling.temperature, sampling.seed, sampling.most) == (0.0, 3, 40)
    tokens = len(stage.engine.tokens.ids("Grüße, 世界!"))
    assert answer.usage.completion_tokens == tokens
    assert answer.usage.prompt_tokens == len(request.tokens)
    assert answer.usage.total_tokens == tokens + len(request.tokens)


def test_a_stream_is_the_same_text_in_whole_characters(says):
    stage = says("Grüße, 世界! 🙂")
    chunks = list(stage.chat(stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
    assert "".join(texts) == "Grüße, 世界! 🙂" and "\ufffd" not in "".join(texts)
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert not chunks[-1].choices and chunks[-1].usage.completion_tokens > 5
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in stage.chat(stream=True))


def test_system_tools_and_earlier_turns_are_in_the_prompt(says):
    stage = says("fine")
    call = {"id": "x", "type": "function",
            "function": {"name": "search", "arguments": '{"query": "é"}'}}  # fmt: skip
    stage.client.chat.completions.create(
        model="toy",
        tools=[SEARCH],
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "who<|im_end|>?"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "x", "content": "nobody"},
        ],
    )
    text = stage.engine.text(stage.engine.seen[-1])
    system, rest = text.split("<|im_end|>\n", 1)
    assert system.startswith("<|im_start|>system\nBe brief.\n\n") and json.dumps(SEARCH) in system
    assert rest == (
        "<|im_start|>user\nwho?<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
        '{"name": "search", "arguments": {"query": "é"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>tool\nnobody<|im_end|>\n<|im_start|>assistant\n"
    )


def streamed(chunks):
    """(content, reasoning, calls, finish) of a stream, put together as clients do."""
    content = reasoning = ""
    calls, finish = {}, None
    for chunk in chunks:
        for choice in chunk.choices:
            content += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            finish = choice.finish_reason or finish
            for part in choice.delta.tool_calls or ():
                held = calls.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
                held["id"] += part.id or ""
                held["name"] += part.function.name or ""
                held["arguments"] += part.function.arguments or ""
    return content, reasoning, calls, finish


def test_tool_calls_arrive_in_pieces(says):
    stage = says(f"<think> hm </think>\n\nLooking.{CALL}\n{CALL}")
    chunks = list(stage.chat(stream=True, tools=[SEARCH]))
    content, reasoning, calls, finish = streamed(chunks)
    assert (content.strip(), reasoning.strip(), finish) == ("Looking.", "hm", "tool_calls")
    assert [call["name"] for call in calls.values()] == ["search", "search"]
    assert len({call["id"] for call in calls.values()}) == 2
    for call in calls.values():
        assert json.loads(call["arguments"]) == {"query": 'a "b" {c}'}
    parts = [c for c in chunks for p in (c.choices[0].delta.tool_calls or ()) if p.index == 0]
    assert len(parts) > 3

    message = stage.chat(tools=[SEARCH]).choices[0].message
    assert [json.loads(call.function.arguments) for call in message.tool_calls] == [
        {"query": 'a "b" {c}'}
    ] * 2
    assert message.content.strip() == "Looking." and message.reasoning_content.strip() == "hm"


def test_one_call_at_a_time(says):
    stage = says(f"{CALL} and {CALL}")
    choice = stage.chat(tools=[SEARCH], parallel_tool_calls=False).choices[0]
    assert len(choice.message.tool_calls) == 1 and choice.finish_reason == "tool_calls"
    assert stage.engine.seen[-1].given < len(stage.engine.tokens.ids(f"{CALL} and {CALL}"))


def test_a_call_may_be_demanded(says):
    def model(prompt, sampling):
        assert prompt.endswith('<tool_call>\n{"name": "search", "arguments": ')
        return '{"query": "x"}}\n</tool_call> more'

    stage = says(model)
    forced = {"type": "function", "function": {"name": "search"}}
    choice = stage.chat(tools=[SEARCH], tool_choice=forced, parallel_tool_calls=False).choices[0]
    (call,) = choice.message.tool_calls
    assert call.function.name == "search" and json.loads(call.function.arguments) == {"query": "x"}
    stage.engine.model = lambda prompt, sampling: '{"name": "search", "arguments": {}}</tool_call>'
    choice = stage.chat(tools=[SEARCH], tool_choice="required").choices[0]
    assert choice.message.tool_calls[0].function.arguments == "{}"


def test_without_tools_a_call_is_text(says):
    stage = says(CALL)
    assert stage.chat().choices[0].message.content == CALL
    message = stage.chat(tools=[SEARCH], tool_choice="none").choices[0].message
    assert message.content == CALL and message.tool_calls is None
    assert "<tools>" not in stage.engine.text(stage.engine.seen[-1])


def test_what_is_no_call_is_shown(says):
    stage = says("<tool_call> broken </tool_call>")
    choice = stage.chat(tools=[SEARCH]).choices[0]
    assert choice.message.content == "<tool_call> broken </tool_call>"
    assert choice.finish_reason == "stop" and choice.message.tool_calls is None


@pytest.mark.parametrize("stream", [True, False])
def test_several_samples_are_told_apart(says, stream):
    stage = says(lambda prompt, sampling: f"sample {sampling.sample}")
    before = len(stage.engine.seen)
    answer = stage.chat(n=3, stream=stream, temperature=0.7)
    texts = ["", "", ""]
    if stream:
        for chunk in answer:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
    else:
        texts = [choice.message.content for choice in answer.choices]
        prompt = len(stage.engine.seen[-1].tokens)
        assert answer.usage.prompt_tokens == prompt
    assert texts == ["sample 0", "sample 1", "sample 2"]
    assert len({request.sampling.seed for request in stage.engine.seen[before:]}) == 1


@pytest.mark.parametrize("stream", [True, False])
def test_stop_strings_are_not_shown(says, stream):
    stage = says("one two three four")
    answer = stage.complete(stop=["three", "zzz"], max_tokens=50, stream=stream)
    if stream:
        chunks = list(answer)
        text = "".join(chunk.choices[0].text for chunk in chunks)
        last = chunks[-1].choices[0]
    else:
        (last,) = answer.choices
        text = last.text
    assert text == "one two " and last.finish_reason == "stop" and last.stop_reason == "three"


def test_the_length_is_kept(says):
    stage = says("word " * 50)
    answer = stage.complete(max_tokens=5)
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 5
    assert stage.complete().usage.completion_tokens == 16
    assert stage.chat(max_completion_tokens=7).usage.completion_tokens == 7


def test_an_end_token_ends(says):
    stage = says(["one", 2, "two"])
    answer = stage.complete(max_tokens=50)
    assert answer.choices[0].text == "one" and answer.choices[0].finish_reason == "stop"


def test_log_probabilities(says):
    stage = says("né b")
    ids = stage.engine.tokens.ids("né b")
    entries = stage.chat(logprobs=True).choices[0].logprobs.content
    assert len(entries) == len(ids) and {entry.logprob for entry in entries} == {
        -0.6931471805599453
    }
    assert bytes(b for entry in entries for b in entry.bytes).decode() == "né b"
    held = [entry for chunk in stage.chat(logprobs=True, stream=True) for choice in chunk.choices
            for entry in (choice.logprobs.content if choice.logprobs else ())]  # fmt: skip
    assert [entry.bytes for entry in held] == [entry.bytes for entry in entries]

    stage = says("a bc")
    logprobs = stage.complete("x", logprobs=0).choices[0].logprobs
    assert "".join(logprobs.tokens) == "a bc" and len(logprobs.token_logprobs) == len(
        logprobs.tokens
    )
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert "a bc"[offset : offset + len(token)] == token
    chunks = stage.complete("x", logprobs=0, stream=True)
    offsets = [n for chunk in chunks for n in (chunk.choices[0].logprobs.text_offset)]
    assert offsets == logprobs.text_offset
    assert stage.complete("x").choices[0].logprobs is None
    # Three tokens may be one character.
    stage = says("a世b")
    offsets = stage.complete("x", logprobs=0).choices[0].logprobs.text_offset
    assert offsets[0] == 0 and offsets[-1] == 2 and max(offsets) == 2


def test_prompts_may_be_several_and_ids(says):
    stage = says(lambda prompt, sampling: prompt.upper() + str(sampling.sample))
    answer = stage.complete(["ab", "cd"], n=2)
    assert [choice.text for choice in answer.choices] == ["AB0", "AB1", "CD0", "CD1"]
    ids = stage.engine.tokens.ids("ef")
    assert stage.complete(ids).choices[0].text == "EF0"
    assert [choice.text for choice in stage.complete([ids, ids]).choices] == ["EF0", "EF0"]


def test_seeds(says):
    stage = says(lambda prompt, sampling: str(sampling.seed))
    assert stage.complete(seed=7).choices[0].text == "7"
    assert len({stage.complete().choices[0].text for _ in range(3)}) > 1
    assert stage.complete(seed=-1).choices[0].text == str(2**31 - 1)


def test_without_a_seed_equal_prompts_differ(says):
    """With one, each prompt gets what it would get alone."""
    stage = says(lambda prompt, sampling: f"{sampling.seed}/{sampling.sample}")
    texts = [choice.text for choice in stage.complete(["p"] * 4, max_tokens=50).choices]
    assert len(set(texts)) == 4
    texts = [choice.text for choice in stage.complete(["p", "p"], n=2, max_tokens=50).choices]
    seeds = [text.split("/") for text in texts]
    assert [sample for _, sample in seeds] == ["0", "1", "0", "1"]
    assert seeds[0][0] == seeds[1][0] != seeds[2][0] == seeds[3][0]
    texts = [choice.text for choice in stage.complete(["p", "p"], n=2, seed=5).choices]
    assert texts == ["5/0", "5/1"] * 2


def test_what_the_official_client_returns_can_be_sent_again(says):
    """Its objects carry fields without a value, and new ones with each version."""
    stage = says(f"<think>hm</think>Looking.{CALL}")
    message = stage.chat(tools=[SEARCH]).choices[0].message
    number = message.tool_calls[0].id
    told = message.model_dump() | {"annotations": [], "audio": None, "not_yet_known": None}
    assert {"refusal", "function_call", "audio"} <= set(told) and told["refusal"] is None
    stage.engine.model = lambda prompt, sampling: "done"
    answer = stage.client.chat.completions.create(
        model="toy",
        messages=[
            {"role": "user", "content": "who?"},
            told,
            {"role": "tool", "tool_call_id": number, "content": "nobody"},
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "Never."}]},
            {"role": "assistant", "content": None},
        ],
    )
    assert answer.choices[0].message.content == "done"
    text = stage.engine.text(stage.engine.seen[-1])
    assert text.count('<tool_call>\n{"name": "search"') == 1
    assert "assistant\nNo.<|im_end|>" in text and "assistant\nNever.<|im_end|>" in text


def test_strict_tools_are_taken(says):
    """The client's own helpers set it; what the model writes is not constrained by it."""
    stage = says("fine")
    tool = {**SEARCH, "function": {**SEARCH["function"], "strict": True}}
    assert stage.chat(tools=[tool]).choices[0].message.content == "fine"
    assert json.dumps(SEARCH) in stage.engine.text(stage.engine.seen[-1])


ODD = "a\u2028b\u2029c\x85d\x0be\x1cf"


@pytest.mark.parametrize("stream", [True, False])
def test_no_reader_of_lines_cuts_an_event(stage, stream):
    """`splitlines` of Python and others end a line at more than a line feed."""
    stage.engine.model = lambda prompt, sampling: ODD
    body = {"model": "toy", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    text = httpx.post(f"{stage.url}/v1/chat/completions", json=body, timeout=20).text
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    told = [json.loads(line) for line in lines if line != "[DONE]"]
    if stream:
        parts = [one["choices"][0]["delta"].get("content", "") for one in told]
    else:
        parts = [told[0]["choices"][0]["message"]["content"]]
    assert "".join(parts) == ODD


def test_the_logarithm_of_zero_is_told_as_openai_does(stage):
    stage.engine.model, stage.engine.logprob = (lambda prompt, sampling: "ab"), -math.inf
    try:
        entries = stage.chat(logprobs=True).choices[0].logprobs.content
        assert {entry.logprob for entry in entries} == {-9999.0}
        assert set(stage.complete(logprobs=0).choices[0].logprobs.token_logprobs) == {-9999.0}
        stage.engine.logprob = math.nan
        with pytest.raises(openai.InternalServerError, match="internal error: ValueError"):
            stage.chat(logprobs=True)
    finally:
        stage.engine.logprob = HALF


def test_the_classes_of_the_queue(says):
    stage = says("x")
    for priority, kind in ((None, "main"), (-1, "draft"), (0, "main"), (3, "background")):
        body = {} if priority is None else {"priority": priority}
        stage.chat(extra_body=body)
        assert stage.engine.seen[-1].kind == kind


def test_models(stage):
    assert [model.id for model in stage.client.models.list()] == ["toy"]
    assert stage.client.models.retrieve("toy").max_model_len == 512
    with pytest.raises(openai.NotFoundError, match="there is no model 'other'"):
        stage.client.models.retrieve("other")
