"""Every engine against the formula of BM25, and what they have in common."""

import numpy as np
import pytest

from loomax.agents.search.retrieval.bm25 import best
from loomax.agents.search.retrieval.build import build_index, memory_index, open_index
from loomax.agents.search.retrieval.config import IndexConfig
from loomax.agents.search.retrieval.document import Document
from loomax.agents.search.retrieval.retriever import Retriever
from loomax.agents.search.world.config import WorldConfig
from loomax.agents.search.world.documents import INDEX, documents
from loomax.agents.search.world.world import make_world

QUERIES = ["w0", "w3 w17", "name-7 w1", "w30 w30 w2", "w39 unknown name-59"]


@pytest.fixture(scope="module", params=["memory", "bm25s", "tantivy"])
def retriever(request, corpus, tmp_path_factory):
    if request.param == "memory":
        return memory_index(corpus)
    if request.param == "tantivy":
        pytest.importorskip("tantivy")
    folder = tmp_path_factory.mktemp("index")
    build_index(folder, corpus, IndexConfig(engine=request.param))
    return open_index(folder)


@pytest.mark.parametrize("query", QUERIES)
def test_scores_are_those_of_the_formula(retriever, corpus, reference, query):
    expected = reference(corpus, query.split())
    hits = retriever.search(query, 10)
    # tantivy adds the factor k1 + 1, which changes no order.
    factor = 2.2 if "Tantivy" in type(retriever).__name__ else 1.0
    found = np.array([hit.score for hit in hits]) / factor
    top = np.sort(expected[expected > 0])[::-1][:10]
    np.testing.assert_allclose(found, top, rtol=2e-5)
    for hit in hits:
        place = corpus.index(hit.document)
        assert hit.score / factor == pytest.approx(expected[place], rel=2e-5)
    assert len({hit.document.id for hit in hits}) == len(hits)


def test_it_is_a_retriever(retriever):
    assert isinstance(retriever, Retriever) and len(retriever.version) == 16


@pytest.mark.parametrize("query", ["", "  ", "?!", "unknown", "\U0001f600"])
def test_nothing_to_find(retriever, query):
    assert retriever.search(query, 3) == ()


def test_more_than_there_is(retriever):
    assert len(retriever.search("name-7", 1000)) == 1


@pytest.mark.parametrize(
    ("query", "k", "message"),
    [("x" * 4097, 1, "has 4097 characters"), ("x", 0, "k is 0"), ("x", 1001, "k is 1001")],
)
def test_searches_that_are_refused(retriever, query, k, message):
    with pytest.raises(ValueError, match=message):
        retriever.search(query, k)


def test_of_equal_scores_the_earlier_document_comes_first():
    twins = [Document(str(n), "", "same words") for n in range(50)]
    hits = memory_index(twins).search("same", 7)
    assert [hit.document.id for hit in hits] == [str(n) for n in range(7)]


def test_best_is_a_sort_cut_short():
    rng = np.random.default_rng(0)
    for k in (1, 3, 20, 99):
        scores = rng.integers(-2, 6, size=30).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        expected = [place for place in order if scores[place] > 0][:k]
        assert best(scores, k).tolist() == expected


def test_names_are_words():
    made = [
        Document("1", "libstdc++", "a library."),
        Document("2", "python3.11", "ends with libstdc++."),
        Document("3", "x-y", "neither x nor y."),
    ]
    index = memory_index(made)
    assert [h.document.id for h in index.search("libstdc++", 3)] == ["1", "2"]
    assert [h.document.id for h in index.search("Python3.11?", 3)] == ["2"]
    assert [h.document.id for h in index.search("x-y", 3)] == ["3"]


def test_the_world_is_found_by_name():
    """The gold document comes first for every name."""
    world = make_world(WorldConfig(entities=3000))
    index = memory_index(documents(world), INDEX)
    for entity in range(0, 3000, 20):
        assert index.search(world.name(entity), 1)[0].document.id == str(entity)


def test_settings_that_are_refused():
    with pytest.raises(ValueError, match="title_boost is 11"):
        IndexConfig(title_boost=11)
    with pytest.raises(ValueError, match="k1 -1.0 must be at least 0, and b 0.75"):
        IndexConfig(k1=-1.0)
    with pytest.raises(ValueError, match="tantivy has k1 1.2 and b 0.75, not 0.9"):
        IndexConfig(engine="tantivy", k1=0.9)
    with pytest.raises(ValueError, match="'tantivy' is not held in memory"):
        memory_index([Document("1", "", "a")], IndexConfig(engine="tantivy"))
    with pytest.raises(ValueError, match="no document holds a word"):
        memory_index([Document("1", "", "...")])
