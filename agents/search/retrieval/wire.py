"""The JSON of Search-R1's `POST /retrieve`, read and written.

Request: {"queries": [...], "topk": 3, "return_scores": true}. Answer: {"result": [...]}, one list
a query, of {"document": {"id", "contents"}, "score"} with scores, of the documents without.
(Search-R1, search_r1/search/retrieval_server.py)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loomax.agents.search.errors import MalformedOutput
from loomax.agents.search.json_text import shown
from loomax.agents.search.retrieval.document import Hit, contents, finite, read_record
from loomax.agents.search.retrieval.retriever import MOST_CHARACTERS, MOST_HITS

MOST_QUERIES = 1024
DEFAULT_TOPK = 3


@dataclass(frozen=True)
class Request:
    """Queries of one call."""

    queries: tuple[str, ...]
    topk: int = DEFAULT_TOPK
    return_scores: bool = False


def read_request(body: object) -> Request:
    """A checked request.

    Raises:
        ValueError: a field is missing, of the wrong type or out of range.
    """
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    queries, topk = body.get("queries"), body.get("topk", DEFAULT_TOPK)
    scores = body.get("return_scores", False)
    if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
        raise ValueError('"queries" must be a list of strings')
    if not 1 <= len(queries) <= MOST_QUERIES:
        raise ValueError(f'"queries" has {len(queries)} entries; send 1 to {MOST_QUERIES}')
    longest = max(map(len, queries))
    if longest > MOST_CHARACTERS:
        raise ValueError(f"a query has {longest} characters; at most {MOST_CHARACTERS} are allowed")
    topk = DEFAULT_TOPK if topk is None else topk
    if isinstance(topk, bool) or not isinstance(topk, int) or not 1 <= topk <= MOST_HITS:
        raise ValueError(f'"topk" is {shown(topk)}; it must be an integer from 1 to {MOST_HITS}')
    if not isinstance(scores, bool):
        raise ValueError(f'"return_scores" is {shown(scores)}; it must be true or false')
    return Request(tuple(queries), topk, scores)


def write_answer(found: Sequence[Sequence[Hit]], return_scores: bool) -> dict[str, Any]:
    """The answer to one request."""
    return {"result": [[_entry(hit, return_scores) for hit in hits] for hits in found]}


def read_answer(body: object, queries: int) -> list[tuple[Hit, ...]]:
    """Hits of each query; without scores they are 1, 1/2, 1/3, ... by rank.

    Raises:
        MalformedOutput: the answer does not have this form.
    """
    result = body.get("result") if isinstance(body, dict) else None
    if not isinstance(result, list) or len(result) != queries:
        raise MalformedOutput(
            f'"result" must be a list with one entry for each of {queries} queries'
        )
    try:
        return [tuple(_read_entries(entries)) for entries in result]
    except ValueError as error:
        raise MalformedOutput(str(error)) from None


def _entry(hit: Hit, return_scores: bool) -> dict[str, Any]:
    document = {"id": hit.document.id, "contents": contents(hit.document)}
    return {"document": document, "score": hit.score} if return_scores else document


def _read_entries(entries: object) -> list[Hit]:
    if not isinstance(entries, list):
        raise ValueError(f"the hits of a query are {type(entries).__name__}; they must be a list")
    hits = []
    for rank, entry in enumerate(entries, start=1):
        where = f"hit {rank}"
        scored = isinstance(entry, dict) and "document" in entry
        record, score = (entry["document"], entry.get("score")) if scored else (entry, 1 / rank)
        hits.append(Hit(read_record(record, where), finite(score, where)))
    return hits
