"""Search agents against an endpoint: the same loop, by tool calls and by tags."""

import json
import math

import pytest

from loomax.agents.search.endpoint.conversation import messages_of
from loomax.agents.search.speculate.config import LOSSLESS, PREDICT_VERIFY, SpeculationConfig

BOLD = SpeculationConfig("bold", aggressive=1, threshold=0.4)


def call(query, index=0, finish="tool_calls", logprob=None):
    """A call in two pieces, as endpoints stream it, and its end."""
    text = json.dumps({"query": query})
    half = len(text) // 2
    head = {
        "index": 0,
        "id": f"id-{query}",
        "function": {"name": "search", "arguments": text[:half]},
    }
    rest = {"index": 0, "function": {"arguments": text[half:]}}
    scored = {} if logprob is None else {"logprobs": {"content": [{"logprob": logprob}]}}
    return [
        {"index": index, "delta": {"role": "assistant", "content": ""}},
        {"index": index, "delta": {"tool_calls": [head]}, **scored},
        {"index": index, "delta": {"tool_calls": [rest]}, **scored},
        {"index": index, "delta": {}, "finish_reason": finish},
    ]


def say(text, index=0):
    return [
        *({"index": index, "delta": {"content": word}} for word in text.split(" ")),
        {"index": index, "delta": {}, "finish_reason": "stop"},
    ]


def chat(queries, guesses=()):
    """Searches for each query, slowly, then answers; drafts guess."""

    def script(body):
        done = sum(message["role"] == "tool" for message in body["messages"])
        if "tool_choice" in body:
            made = [guesses[done][n % len(guesses[done])] for n in range(body["n"])]
            drafts = [call(guess, n, "stop", math.log(0.5)) for n, guess in enumerate(made)]
            return [part for draft in drafts for part in draft]
        if done < len(queries):
            return [
                *({"delta": {"reasoning_content": " hm"}}, 0.1) * 15,
                *call(queries[done]),
                "[DONE]",
            ]
        return [*say("it is"), "[DONE]"]

    return script


def test_tool_calls(play):
    run, endpoint, library = play(chat(["a", "b"]))
    assert (run.answer, run.steps, library.queries) == ("itis", 2, ["a", "b"])
    first, _, last = endpoint.bodies
    assert first["messages"] == [
        {"role": "system", "content": "Search."},
        {"role": "user", "content": "who ?"},
    ]
    assert [tool["function"]["name"] for tool in first["tools"]] == ["search"]
    assert first["stream"] and first["n"] == 1 and "tool_choice" not in first
    assistant, result = last["messages"][2:4]
    (made,) = assistant["tool_calls"]
    assert assistant["content"] is None and made["id"] == "id-a" and made["type"] == "function"
    assert json.loads(made["function"]["arguments"]) == {"query": "a"}
    assert result["tool_call_id"] == "id-a"
    assert json.loads(result["content"])["documents"][0]["text"] == "about a"
    assert endpoint.headers[0]["authorization"] == "Bearer key"
    assert endpoint.paths[0] == "/v1/chat/completions"


def test_drafts_are_one_more_request_with_n_samples(play):
    run, endpoint, library = play(chat(["a", "b"], [["x", "a"], ["b"], ["c"]]), PREDICT_VERIFY,
                                  priority=True)  # fmt: skip
    assert run.answer == "itis" and run.steps == 2
    drafting = [body for body in endpoint.bodies if "tool_choice" in body]
    assert [body["n"] for body in drafting] == [4, 4, 4]
    assert {body["temperature"] for body in drafting} == {1.0}
    assert drafting[0]["tool_choice"] == {"type": "function", "function": {"name": "search"}}
    assert drafting[0]["max_tokens"] == 47 and drafting[0]["parallel_tool_calls"] is False
    assert {body["priority"] for body in drafting} == {0}  # drafts are not put first here
    kinds = [event.kind for event in run.events]
    assert kinds.count("draft") == 8 and kinds.count("hit") == 2 and kinds.count("right") == 6
    assert sorted(library.queries[:2]) == ["a", "x"] and "b" in library.queries
    assert len(endpoint.bodies) == 6


def test_drafts_do_not_change_the_run(play):
    plain, _, _ = play(chat(["a", "b"]))
    drafted, _, _ = play(chat(["a", "b"], [["x", "a"], ["y"], ["c"]]), PREDICT_VERIFY)
    assert drafted.transcript.written.sum() == plain.transcript.written.sum()
    assert (drafted.answer, drafted.steps) == (plain.answer, plain.steps)


@pytest.mark.parametrize(("threshold", "taken"), [(0.4, 1), (0.6, 0)])
def test_a_draft_may_be_taken_unverified(play, threshold, taken):
    policy = SpeculationConfig("p", aggressive=1, threshold=threshold)
    run, endpoint, library = play(chat(["a", "b"], [["a"]]), policy)
    kinds = [event.kind for event in run.events]
    assert kinds.count("unverified") == taken and run.answer == "itis"
    assert endpoint.bodies[0]["tool_choice"]["function"]["name"] == "search"
    # The demand is not part of what is sent afterwards.
    assert "tool_choice" not in endpoint.bodies[1]
    assert library.queries == ["a", "b"]


def test_without_log_probabilities_no_draft_is_sure_enough(play):
    def script(body):
        return call("a", 0, "stop") if "tool_choice" in body else chat(["a"])(body)

    run, endpoint, _ = play(script, BOLD, logprobs=False)
    assert "logprobs" not in endpoint.bodies[0]
    assert [e.detail for e in run.events if e.kind == "refused"] == [
        "confidence 0.00 is below 0.40"
    ]


def test_level_one_drafts_only_while_the_endpoint_is_quick(play):
    """From the fourth step on it waits ten times as long for a first token: others have come."""

    def script(body):
        done = sum(message["role"] == "tool" for message in body["messages"])
        wait = 0.1 if done < 3 else 9.0
        if "tool_choice" in body:
            return [wait, *(part for n in range(body["n"]) for part in call("none", n, "stop"))]
        thoughts = [*({"delta": {"reasoning_content": " hm"}}, 0.1) * 50]
        ended = call(f"q{done}") if done < 6 else say("done")
        return [wait, *thoughts, *ended]

    run, endpoint, _ = play(script, LOSSLESS)
    assert run.answer == "done"
    steps = [sum(m["role"] == "tool" for m in body["messages"])
             for body in endpoint.bodies if "tool_choice" in body]  # fmt: skip
    assert min(steps) == 1 and max(steps) <= 3


def tags(queries, guess="a", tell=True):
    def script(body):
        assert body["stop"] == ["</search>", "</answer>"]
        done = body["prompt"].count("</information>") - 1
        if body["prompt"].endswith("<search>"):
            parts = [{"index": n, "text": f" {guess}"} for n in range(body["n"])]
            ends = [{"index": n, "text": "", "finish_reason": "stop"} for n in range(body["n"])]
            return [*parts, *ends]
        query = queries[done] if done < len(queries) else None
        text = f" <search> {query} " if query else " <answer> it is "
        stop = {"stop_reason": "</search>" if query else "</answer>"} if tell else {}
        thoughts = [{"text": word} for word in ("<think>", " hm", " </think>")]
        return [*thoughts, 0.1, {"text": text}, {"text": "", "finish_reason": "stop", **stop}]

    return script


@pytest.mark.parametrize("tell", [True, False])
@pytest.mark.parametrize("policy", [None, PREDICT_VERIFY])
def test_tags(play, tell, policy):
    """Endpoints do not show the string that ended the text; some do not even name it."""
    run, endpoint, library = play(tags(["a", "b"], tell=tell), policy, api="completions")
    assert (run.answer, run.steps) == ("it is", 2) and set(library.queries) == {"a", "b"}
    last = endpoint.bodies[-1]["prompt"] if policy is None else ""
    assert policy or "</think> <search> a </search>\n\n<information>Doc 1(Title: a)" in last
    assert endpoint.paths[0] == "/v1/completions" and endpoint.bodies[0]["logprobs"] == 0
    hits = [event for event in run.events if event.kind == "hit"]
    assert len(hits) == (policy is not None)


def test_a_draft_by_tags_may_be_taken_unverified(play):
    def script(body):
        if body["prompt"].endswith("<search>"):
            scored = {"logprobs": {"token_logprobs": [-0.1]}}
            return [{"text": " a", **scored}, {"text": "", "finish_reason": "stop"}]
        return tags(["a", "b"], tell=False)(body)

    run, _, library = play(script, BOLD, api="completions")
    assert [event.confidence for event in run.events if event.kind == "unverified"] == [
        pytest.approx(math.exp(-0.1))
    ]
    assert library.queries == ["a", "b"] and run.answer == "it is"


def test_faults_of_the_model_are_corrected(play):
    broken = {"index": 0, "id": "x", "function": {"name": "search", "arguments": '{"query"'}}

    def script(body):
        roles = [message["role"] for message in body["messages"]]
        if "tool" not in roles:
            return [
                {"delta": {"tool_calls": [broken]}},
                {"delta": {}, "finish_reason": "tool_calls"},
            ]
        # What cannot be read is not sent back as it was: a server would refuse all of it.
        (made,) = body["messages"][2]["tool_calls"]
        assert made["function"]["arguments"] == "{}"
        assert json.loads(body["messages"][3]["content"])["error"] == "bad_json"
        return say("fine")

    assert play(script)[0].answer == "fine"


def test_messages_are_read_from_texts():
    deltas = [
        'c{"delta": {"content": "a"}}',
        'c{"delta": {"content": "b", "reasoning_content": 1}}',
    ]
    texts = ['m{"role": "user"}', "twho", "t ?", *deltas, 'm{"role": "user"}', "tno"]
    user, other = {"role": "user", "content": "who ?"}, {"role": "user", "content": "no"}
    assert messages_of(texts) == ([user, {"role": "assistant", "content": "ab"}, other], False)
    assert messages_of([*texts, "f"])[1] and not messages_of(["f", *texts])[1]


def parallel(*calls, finish="tool_calls"):
    """All calls in one chunk, and the end."""
    return [{"delta": {"tool_calls": list(calls)}}, {"delta": {}, "finish_reason": finish}]


def made(query, **given):
    return {"function": {"name": "search", "arguments": json.dumps({"query": query})}, **given}


def replies_follow_their_calls(messages):
    """What OpenAI demands of a conversation."""
    place = 0
    while place < len(messages):
        ids = [call["id"] for call in messages[place].get("tool_calls", ())]
        place += 1
        assert len(set(ids)) == len(ids) and all(ids)
        answers = messages[place : place + len(ids)]
        assert [answer["role"] for answer in answers] == ["tool"] * len(ids)
        assert sorted(answer["tool_call_id"] for answer in answers) == sorted(ids)
        place += len(ids)
        assert place == len(messages) or messages[place]["role"] != "tool"


@pytest.mark.parametrize(
    "calls",
    [
        [made("a", index=0, id="x"), made("b", index=1, id="y")],
        [made("a", index=0, id="x"), made("b", index=0, id="y")],
        [made("a", id="x"), made("b", id="y")],
        [made("a"), made("b")],
        [made("a", index=0), made("b", index=0)],
    ],
)
def test_each_of_several_calls_is_run_and_answered(play, calls):
    def script(body):
        replies_follow_their_calls(body["messages"])
        answered = any(message["role"] == "tool" for message in body["messages"])
        return say("fine") if answered else parallel(*calls)

    run, endpoint, library = play(script)
    assert run.answer == "fine" and sorted(library.queries) == ["a", "b"]
    *_, first, second = endpoint.bodies[-1]["messages"]
    texts = [json.loads(each["content"])["documents"][0]["text"] for each in (first, second)]
    assert texts == ["about a", "about b"]


def test_calls_that_were_not_run_are_answered_too(play):
    broken = {"id": "z", "index": 2, "function": {"name": "sea", "arguments": '{"que'}}
    turns = [
        # Cut in the middle of the second call.
        parallel(made("a", index=0, id="x"), broken, finish="length"),
        # Nothing to call, and a call.
        parallel({"id": "n", "index": 0, "function": {"name": ""}}, made("b", index=1, id="y")),
        # Words that no encoder takes, and arguments too deep for anybody.
        parallel(made("\ud800", index=0, id="s"),
                 {"id": "d", "index": 1,
                  "function": {"name": "search", "arguments": '{"query":' * 3000}}),
    ]  # fmt: skip

    def script(body):
        replies_follow_their_calls(body["messages"])
        # Whoever reads it as UTF-8 can.
        json.dumps(body, ensure_ascii=False).encode()
        done = sum(message["role"] == "assistant" for message in body["messages"])
        return turns[done] if done < len(turns) else say("fine")

    run, endpoint, library = play(script)
    assert run.answer == "fine" and library.queries == ["a", "b", "\ufffd"]
    errors = [json.loads(m["content"]).get("error") for m in endpoint.bodies[-1]["messages"]
              if m["role"] == "tool"]  # fmt: skip
    assert errors == [None, "cut_off", "unknown_tool", None, None, "bad_json"]


def test_line_separators_do_not_cut_an_event(play):
    """U+2028 and U+0085 stand raw in JSON that is not escaped."""

    def script(body):
        event = {"choices": [{"delta": {"content": "a\u2028b\x85c"}}]}
        return [json.dumps(event, ensure_ascii=False), {"delta": {}, "finish_reason": "stop"}]

    assert play(script)[0].answer == "a\u2028b\x85c"


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_halves_of_surrogate_pairs_reach_nobody(play, api):
    """Events are printed, and written as UTF-8."""

    def script(body):
        json.dumps(body, ensure_ascii=False).encode()
        if api == "chat":
            return say("\ud800")
        return [{"text": "<answer> \udfff </answer>"}, {"text": "", "finish_reason": "stop"}]

    run, _, _ = play(script, api=api, question="caf\udce9 ?")
    assert run.answer == "\ufffd"
    assert run.events[0].detail == "caf\ufffd ?"
    assert all(event.detail.encode() is not None for event in run.events)
