"""Facts in hay: where they lie, that they come again, and that nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest

from loomax.agents.pretrain.config import NeedleConfig
from loomax.agents.pretrain.data import Batches
from loomax.agents.pretrain.documents import load_documents
from loomax.agents.pretrain.needles import CITIES, Facts, Rewrite, insert, prompt
from loomax.agents.pretrain.tokens import encoder
from loomax.models.tokenizer.bpe import BEGIN, FIRST_BYTE, default_tokenizer

ENCODE = encoder("bytes")
FACTS = Facts(ENCODE)
# No byte of a fact.
HAY = np.full(50, FIRST_BYTE + ord("~"), np.int32)


def text_of(tokens) -> str:
    return bytes(int(token) - FIRST_BYTE for token in tokens if token >= FIRST_BYTE).decode()


def rng(seed=0):
    return np.random.default_rng(seed)


def test_parts_lie_where_they_were_put():
    hay, parts = np.arange(5), [np.array([10, 11]), np.array([20]), np.array([30])]
    found = insert(hay, parts, [5, 0, 2])
    np.testing.assert_array_equal(found, [20, 0, 1, 30, 2, 3, 4, 10, 11])


def test_facts_are_of_distinct_cities():
    texts = [text_of(fact.whole) for fact in FACTS.draw(len(CITIES), rng())]
    assert {text.split()[3] for text in texts} == set(CITIES)
    for text in texts:
        number = text.split()[-1]
        assert text.startswith("\nThe key of ") and text.endswith(".\n")
        assert len(number) == 5 and number[:4].isdigit()
    with pytest.raises(ValueError, match=f"give 1 to {len(CITIES)}"):
        FACTS.draw(len(CITIES) + 1, rng())


def test_the_embedded_tokenizer_reads_a_fact_as_it_reads_its_parts():
    """A document that holds a fact has the tokens that the prompts have."""
    tokenizer = default_tokenizer()
    for fact in Facts(encoder("default")).draw(20, rng()):
        text = tokenizer.decode(fact.whole)
        assert tokenizer.ids(text) == fact.whole.tolist()


@pytest.mark.parametrize("depth", [0.0, 0.3, 1.0])
def test_a_prompt_asks_for_the_fact_at_its_depth(depth):
    made = prompt(FACTS, HAY, length=200, depth=depth, needles=2, rng=rng())
    assert made.tokens.shape == (200,) and made.tokens[0] == BEGIN
    text, answer = text_of(made.tokens), text_of(made.answer)
    asked = text[text.rindex("\nThe key") :]
    assert asked.endswith(" is") and text.count("\nThe key") == 3
    assert text.count(asked + answer) == 1
    before = text[: text.index(asked + answer)].count("~")
    assert before == round(depth * text.count("~"))


def test_needles_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="3 needles and a question do not fit 60 tokens") as caught:
        prompt(FACTS, HAY, length=60, depth=0.5, needles=3, rng=rng())
    least = int(str(caught.value).split()[-1])
    assert len(prompt(FACTS, HAY, length=least, depth=0.5, needles=3, rng=rng()).tokens) == least
    with pytest.raises(ValueError):
        prompt(FACTS, HAY, length=least - 1, depth=0.5, needles=3, rng=rng())


def row(length=240) -> dict[str, np.ndarray]:
    tokens = np.resize(HAY, length)
    return {"tokens": tokens, "tokens_segment_ids": np.repeat([1, 2], length // 2)}


def test_a_haystack_tells_every_fact_twice():
    counts = set()
    for seed in range(20):
        made = Rewrite(ENCODE, 1.0, 4, 10.0)(row(), rng(seed))
        assert made["tokens"].shape == (240,) and set(made["tokens_segment_ids"]) == {1}
        text = text_of(made["tokens"])
        again = text[text.rindex("~") + 1 :].replace("\n\n", "\n|\n").split("|")
        # The last fact may have been told right before the end, where all are told again.
        facts = set(again)
        assert all(text.count(fact) == 2 for fact in facts), text
        assert text.count("The key") == 2 * len(facts)
        assert text.count("~") >= 60
        counts.add(len(facts))
    # Three fit beside a quarter of hay.
    assert counts == {1, 2, 3}


def test_other_rows_stay_and_short_ones_hold_no_fact():
    kept = Rewrite(ENCODE, 0.3, 4, 10.0)
    changed = [kept(row(), rng(seed))["tokens_segment_ids"].max() == 1 for seed in range(200)]
    assert 0.2 < np.mean(changed) < 0.4
    short = row(40)
    made = Rewrite(ENCODE, 1.0, 4, 10.0)(short, rng())
    assert made["tokens"] is short["tokens"] and set(made["weights"]) == {1.0}


def test_repeated_answers_count_more():
    made = Rewrite(ENCODE, 1.0, 1, 7.0)(row(), rng())
    answer = text_of(made["tokens"][made["weights"] == 7.0])
    assert made["weights"].shape == (240,) and set(made["weights"]) == {1.0, 7.0}
    assert len(answer) == len(" 1234.\n") and text_of(made["tokens"]).endswith(answer)


def test_haystacks_in_batches_resume(data):
    """Rows are rewritten on the way, the same again after a stop."""
    data = replace(data, needles=NeedleConfig(share=0.5, most=2))
    documents = load_documents(data)

    def make():
        return Batches(documents, data, length=160, rows=4, seed=3)

    rows = make()
    first, state, second = next(rows), rows.state(), next(rows)
    assert any("The key of" in text_of(tokens) for tokens in first.tokens)
    assert any("The key of" not in text_of(tokens) for tokens in first.tokens)
    again = make()
    again.restore(state)
    for a, b in zip(second, next(again), strict=True):
        np.testing.assert_array_equal(a, b)
