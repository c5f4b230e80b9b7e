"""What joins a request, the engine and the answer: each field reaches its place, and no other."""

import pytest

from loomax.agents.search.engine_protocol import Sampling

END = "<|im_end|>"


def test_every_field_of_a_completion_reaches_the_engine(stage):
    stage.engine.model = lambda prompt, sampling: "a"
    stage.complete("x", temperature=0.25, seed=9, max_tokens=7, stop=["u", "v"], n=3)
    samplings = [request.sampling for request in stage.engine.seen[-3:]]
    assert samplings == [Sampling(7, 0.25, ("u", "v"), 9, number) for number in range(3)]
    stage.complete("x", seed=2**31 + 4)
    assert stage.engine.seen[-1].sampling == Sampling(16, 1.0, (), 4, 0)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_every_field_of_a_chat_reaches_the_engine(stage, name):
    stage.engine.model = lambda prompt, sampling: "a"
    stage.chat("x", temperature=2, seed=1, stop="u", **{name: 5})
    assert stage.engine.seen[-1].sampling == Sampling(5, 2.0, ("u", END), 1, 0)
    stage.chat("x", seed=1)
    request = stage.engine.seen[-1]
    # As much as the context leaves.
    assert request.sampling == Sampling(512 - len(request.tokens), 1.0, (END,), 1, 0)


@pytest.mark.parametrize("stream", [True, False])
def test_usage_counts_each_prompt_once_and_each_answer(stage, stream):
    replies = ["a", "a b c"]
    stage.engine.model = lambda prompt, sampling: replies[sampling.sample]
    options = {"stream_options": {"include_usage": True}} if stream else {}
    answer = stage.complete(["x", "y z"], n=2, max_tokens=50, stream=stream, **options)
    usage = list(answer)[-1].usage if stream else answer.usage
    ids = stage.engine.tokens.ids
    prompts, answers = (sum(map(len, map(ids, texts))) for texts in (["x", "y z"], replies))
    assert (usage.prompt_tokens, usage.completion_tokens) == (prompts + 2, 2 * answers)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@pytest.mark.parametrize(
    ("reply", "most", "finish", "stop", "count"),
    [
        ("abc", 3, "length", None, 3),
        ("abc", 4, "stop", None, 3),
        ("abcSTOPx", 50, "stop", "STOP", 7),
        ("abcSTOP", 7, "stop", "STOP", 7),
        ("abcSTOP", 6, "length", None, 6),
    ],
)
def test_why_an_answer_ended(stage, reply, most, finish, stop, count):
    """A token a letter: the stop string lies over four of them."""
    letters = [token for letter in reply for token in stage.engine.tokens.ids(letter)]
    assert len(letters) == len(reply)
    stage.engine.model = lambda prompt, sampling: letters
    answer = stage.complete(max_tokens=most, stop="STOP")
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.stop_reason) == (finish, stop)
    assert choice.text == ("abc" if stop or finish == "stop" else reply[:most])
    assert answer.usage.completion_tokens == count
