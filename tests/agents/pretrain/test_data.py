"""Packing against the documents themselves, and iterators that stop and go on."""

import json
from dataclasses import replace

import numpy as np
import pytest

from loomax.agents.pretrain.data import Batches, Rows, held_out_rows
from loomax.agents.pretrain.documents import load_documents
from loomax.models.tokenizer.bpe import BEGIN, END, FIRST_BYTE

LENGTH, ROWS = 16, 2


@pytest.fixture(scope="module")
def documents(data):
    return load_documents(data)


@pytest.fixture
def batches(documents, data):
    def make(seed=3, **changes):
        sizes = {"length": LENGTH, "rows": ROWS} | changes
        return Batches(documents, data, seed=seed, **sizes)

    return make


def stream(rows: list[Rows]) -> np.ndarray:
    """The tokens of all rows behind one another."""
    return np.concatenate([batch.tokens.reshape(-1) for batch in rows])


def take(iterator, count: int) -> list[Rows]:
    return [next(iterator) for _ in range(count)]


def texts_of(tokens: np.ndarray) -> list[str]:
    """Whole documents of a stream of bytes, read without the code that wrote it."""
    found, current = [], None
    for token in tokens:
        if token == BEGIN:
            assert current is None, "a document began within another"
            current = b""
        elif token == END:
            found.append(current.decode())
            current = None
        else:
            current += bytes([token - FIRST_BYTE])
    return found


def same(left: Rows, right: Rows) -> None:
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_token_is_lost_or_doubled(batches, texts):
    """Three epochs, each of them every document once, in another order."""
    rows = take(batches(), 25)
    assert all(batch.tokens.shape == (ROWS, LENGTH + 1) for batch in rows)
    read, count = texts_of(stream(rows)), len(texts)
    epochs = [read[start : start + count] for start in range(0, 3 * count, count)]
    assert [sorted(epoch) for epoch in epochs] == [sorted(texts)] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_segments_change_where_documents_begin(batches):
    for tokens, segments, _ in take(batches(), 25):
        begins = tokens == BEGIN
        begins[:, 0] = True  # the rest of a document is the row's first
        np.testing.assert_array_equal(segments, begins.cumsum(1))


def test_the_seed_decides(batches):
    same(*(next(batches()) for _ in range(2)))
    assert not np.array_equal(next(batches(seed=4)).tokens, next(batches()).tokens)


def test_shares_make_up_every_epoch(batches, texts):
    parts = []
    for number in range(3):
        rows = take(batches(share=(number, 3), rows=1), 20)
        parts.append(texts_of(stream(rows))[: len(texts) // 3])
    assert sorted(sum(parts, [])) == sorted(texts)


def test_more_processes_than_documents_are_refused(batches):
    with pytest.raises(ValueError, match="12 documents do not go round 13 streams"):
        batches(share=(0, 13))


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("stop", [0, 1, 2, 5, 9, 18])
def test_a_restored_iterator_goes_on(batches, rows, stop):
    """Also where a row ends with its document, and through JSON, which knows no tuples."""
    whole = take(batches(rows=rows), stop + 15)
    first = batches(rows=rows)
    take(first, stop)
    second = batches(rows=rows)
    take(second, 4)  # where it stood does not matter
    second.restore(json.loads(json.dumps(first.state())))
    for want, got in zip(whole[stop:], take(second, 15), strict=True):
        same(want, got)


def test_rows_that_end_with_documents_are_restored(tmp_path, data):
    """Every document fills a row, so that no state has a rest of one."""
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text(chr(97 + number) * (LENGTH - 1))
    config = replace(data, path=str(tmp_path))
    documents = load_documents(config)

    def make():
        return Batches(documents, config, seed=0, length=LENGTH, rows=1)

    whole, first, second = take(make(), 9), make(), make()
    take(first, 4)
    second.restore(json.loads(json.dumps(first.state())))
    for want, got in zip(whole[4:], take(second, 5), strict=True):
        same(want, got)


@pytest.mark.parametrize("change", [{"length": 15}, {"seed": 4}, {"share": (0, 2)}])
def test_rows_that_were_made_otherwise_are_refused(batches, change):
    state = json.loads(json.dumps(batches(**change).state()))
    with pytest.raises(ValueError, match="go on with the same lengths and seed"):
        batches().restore(state)


def test_held_out_rows_hold_each_document_once(documents, data, texts):
    numbers = (4, 0, 10)
    found = held_out_rows(documents, data, numbers, length=LENGTH, rows=4)
    tokens = stream(found)
    segments = np.concatenate([batch.segments.reshape(-1) for batch in found])
    assert texts_of(tokens[segments > 0]) == [texts[number] for number in numbers]
    # 40 + 3 + 63 tokens are 7 rows of 17; the eighth is padding.
    assert [batch.tokens.shape for batch in found] == [(4, 17)] * 2
    assert tokens[segments == 0].sum() == 0 and (segments > 0).sum() == 40 + 3 + 63


def test_held_out_rows_can_be_limited(documents, data):
    everything = held_out_rows(documents, data, (4, 0, 10), length=LENGTH, rows=4)
    (some,) = held_out_rows(documents, data, (4, 0, 10), length=LENGTH, rows=4, most=3)
    np.testing.assert_array_equal(some.tokens[:3], everything[0].tokens[:3])
    assert some.segments[3].sum() == 0
