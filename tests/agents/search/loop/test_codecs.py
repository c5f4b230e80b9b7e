"""Turns through both grammars, and their codecs."""

import math

import pytest

from loomax.agents.search.engine_protocol import Piece, Sampling
from loomax.agents.search.grammar.action import Answer, Malformed, Reasoning, ToolCall
from loomax.agents.search.grammar.openai_tools import OpenAIGrammar
from loomax.agents.search.loop.chat_codec import ChatCodec
from loomax.agents.search.loop.codec import Codec, TextCodec, score_of
from loomax.agents.search.loop.turn import key_of
from loomax.agents.search.speculate.config import PREDICT_VERIFY, SpeculationConfig
from loomax.agents.search.world.config import WorldConfig
from loomax.agents.search.world.vocabulary import Vocabulary

END = "<|im_end|>"
CALL = '{{"name": "search", "arguments": {{"query": "{}"}}}} </tool_call>'


@pytest.fixture
def chat(words):
    return ChatCodec(words, words.ids(END)[0], system="Tools: search\n")


def chat_model(text, sample):
    step = text.count("<|im_start|>tool")
    if text.endswith("<tool_call>"):
        return CALL.format("red")
    if step == 0:
        return f"<think> hm </think> <tool_call> {CALL.format('red')} more"
    return f"<think> so </think> it is red {END} more"


@pytest.mark.parametrize("policy", [None, PREDICT_VERIFY, SpeculationConfig("p", aggressive=1)])
def test_tool_calls_of_a_chat_model(play, chat, policy):
    stage = play(chat_model, policy, grammar=OpenAIGrammar(), codec=chat)
    assert stage.run.answer == "it is red" and stage.library.queries == ["red"]
    text = "".join(chat.words.pieces(stage.run.transcript.tokens.tolist()))
    assert '"documents": [{"title": "red", "text": "about red"}]' in text and "more" not in text
    assert text.count("hm") == (policy is None or not policy.aggressive)


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("<tool_call> {broken </tool_call>", "unknown_tool"),
        ('<tool_call> {"name": "search", </tool_call>', "bad_json"),
        ('<tool_call> {"name": "search"} </tool_call>', "missing_argument"),
        ("<tool_call> [1] </tool_call>", "unknown_tool"),
        (f'<tool_call> {{"name": "search", "arguments": {"[" * 9000} </tool_call>', "bad_json"),
        (f"<tool_call> {'[' * 5000 + ']' * 5000} </tool_call>", "unknown_tool"),
        ("cut off", "cut_off"),
        (END, "no_action"),
    ],
)
def test_faults_of_a_chat_model(play, chat, written, fault):
    def model(text, sample):
        return f"fine {END}" if fault in text else written

    stage = play(model, grammar=OpenAIGrammar(), codec=chat)
    assert stage.all("fault")[0].detail.startswith(fault) and stage.run.answer == "fine"


class Played:
    def __init__(self, *pieces):
        self.pieces = pieces

    async def __aiter__(self):
        for tokens in self.pieces:
            yield Piece(tuple(tokens), (-0.1 * len(tokens),) * len(tokens))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 20])
def test_pieces_change_nothing(run_turn, words, size):
    tokens = words.ids("a <think> b </think> c <search> d e </search> f g <answer> h </answer>")
    pieces = [tokens[n : n + size] for n in range(0, len(tokens), size)]
    turn = run_turn(Played(*pieces), 50)
    assert turn.tokens == tokens[:9] and len(turn.logprobs) == 9
    assert turn.events == [Reasoning("b"), ToolCall("search", {"query": "d e"})]


def test_a_turn_reads_no_more_than_it_may(run_turn, words):
    tokens = words.ids("<answer> a b c d </answer>")
    turn = run_turn(Played(tokens[:2], tokens[2:]), 4)
    assert turn.tokens == tokens[:4] and isinstance(turn.actions[0], Malformed)
    assert turn.confidence == pytest.approx(math.exp(-0.4))
    assert run_turn(Played(tokens), 6).actions == [Answer("a b c d")]


def test_the_vocabulary_of_the_worlds_fits():
    words = Vocabulary(WorldConfig().sizes)
    codec = TextCodec(words, begin=[1])
    assert isinstance(codec, Codec) and codec.prompt("rival of") == (1, *words.ids("rival of"))
    (text,) = codec.reader().feed(words.ids("<search> Bal-den </search>"))
    assert text == " <search> Bal-den </search>"


@pytest.mark.parametrize(("text", "score"), [("1", 0.0), (" 4 ", 0.75), ("5", 1.0), ("6", 0.0)])
def test_scores(text, score):
    assert score_of(text) == score


@pytest.mark.parametrize(("said", "taken"), [("5", True), ("3", False), ("well", False)])
def test_the_model_may_score_its_own_draft(play, plan, words, said, taken):
    base = plan(["a"], ["a </search>"])

    def model(text, sample):
        return said if text.endswith("</search> score ?") else base(text, sample)

    policy = SpeculationConfig("p", aggressive=1, scorer="self", threshold=0.75)
    stage = play(model, policy, codec=TextCodec(words, question="score ?"))
    assert ("unverified" in stage.kinds) == taken and stage.run.answer == "done"
    assert [request.kind for request in stage.engine.seen][:2] == ["main", "score"]


def test_calls_that_are_no_json_equal_nothing():
    assert key_of(ToolCall("search", {"query": float("nan")})) == ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sampling(0), "most is 0"),
        (lambda: Sampling(1, -1.0), "temperature -1.0"),
        (lambda: Piece((1, 2), (0.0,)), "2 tokens have 1 log-probabilities"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
