"""Search-R1's `/retrieve`: both ends of the wire, together and each against a bad other."""

import asyncio
import json
import socket
import threading
from datetime import UTC, datetime

import httpx
import pytest
import uvicorn

from loomax.agents.search.errors import MalformedOutput, RateLimited, Rejected, ToolError
from loomax.agents.search.retrieval import wire
from loomax.agents.search.retrieval.build import memory_index
from loomax.agents.search.retrieval.client import RemoteRetriever, retry_after_s
from loomax.agents.search.retrieval.document import Document, Hit
from loomax.agents.search.retrieval.retriever import Retriever
from loomax.agents.search.retrieval.server import application

HITS = (Hit(Document("7", "T", "text"), 2.5), Hit(Document("8", "", "more"), 1.0))


@pytest.fixture(scope="module")
def index(corpus):
    return memory_index(corpus)


def post(index, body, path="/retrieve", method="POST"):
    """One request to the application, without a socket."""

    async def main():
        transport = httpx.ASGITransport(app=application(index))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await client.request(method, path, content=content)

    return asyncio.run(main())


def test_the_answer_has_the_original_form():
    """As the reference server of Search-R1 writes it."""
    assert wire.write_answer([HITS, ()], True) == {
        "result": [
            [
                {"document": {"id": "7", "contents": '"T"\ntext'}, "score": 2.5},
                {"document": {"id": "8", "contents": '""\nmore'}, "score": 1.0},
            ],
            [],
        ]
    }
    assert wire.write_answer([HITS[:1]], False) == {
        "result": [[{"id": "7", "contents": '"T"\ntext'}]]
    }


def test_what_was_written_is_read():
    assert wire.read_answer(wire.write_answer([HITS, ()], True), 2) == [HITS, ()]
    ((first, second),) = wire.read_answer(wire.write_answer([HITS], False), 1)
    assert (first.document, second.document) == (HITS[0].document, HITS[1].document)
    assert (first.score, second.score) == (1.0, 0.5)


def test_the_server_answers_every_query(index):
    answer = post(index, {"queries": ["name-7", "unknown", "w3"], "topk": 2, "return_scores": True})
    found = wire.read_answer(answer.json(), 3)
    assert answer.status_code == 200
    assert found == [index.search(query, 2) for query in ("name-7", "unknown", "w3")]


def test_three_documents_without_scores_are_the_default(index):
    (entries,) = post(index, {"queries": ["w0"]}).json()["result"]
    assert len(entries) == 3 and set(entries[0]) == {"id", "contents"}
    assert post(index, {"queries": ["w0"], "topk": None}).json()["result"] == [entries]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        ([], "must be a JSON object"),
        ({}, '"queries" must be a list of strings'),
        ({"queries": "w0"}, '"queries" must be a list of strings'),
        ({"queries": [1]}, '"queries" must be a list of strings'),
        ({"queries": []}, "has 0 entries; send 1 to 1024"),
        ({"queries": ["a"] * 1025}, "has 1025 entries"),
        ({"queries": ["a" * 5000]}, "a query has 5000 characters"),
        ({"queries": ["a"], "topk": 0}, '"topk" is 0'),
        ({"queries": ["a"], "topk": True}, '"topk" is True'),
        ({"queries": ["a"], "topk": 2000}, "an integer from 1 to 1000"),
        ({"queries": ["a"], "return_scores": 1}, '"return_scores" is 1'),
    ],
)
def test_bad_requests_are_told_why(index, body, message):
    answer = post(index, body)
    assert answer.status_code == 400 and message in answer.json()["error"]


def test_a_body_without_end_is_not_read(index, monkeypatch):
    monkeypatch.setattr("loomax.agents.search.retrieval.server.MOST_BYTES", 100)
    answer = post(index, b" " * 101)
    assert answer.status_code == 400 and "longer than 100 bytes" in answer.json()["error"]


def test_health_tells_the_version(index):
    answer = post(index, b"", "/health", "GET")
    assert answer.json() == {"status": "ok", "version": index.version}
    assert post(index, b"", "/retrieve", "GET").status_code == 405


@pytest.fixture
def served(index):
    """A real server on a free port."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        config = uvicorn.Config(application(index), ws="none", lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [held]})
        held.listen()
        thread.start()
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()


def test_client_and_server_are_a_retriever(index, served):
    with httpx.Client() as connections:
        remote = RemoteRetriever(served, client=connections)
        assert isinstance(remote, Retriever) and remote.version == index.version
        assert remote.search("name-7 w3", 4) == index.search("name-7 w3", 4)
        assert remote.search_many(["w1", "none"], 2) == [index.search("w1", 2), ()]
        with pytest.raises(ValueError, match="k is 0"):
            remote.search("w1", 0)


def remote_of(answer, version="v"):
    """A client whose server gives, or raises, one thing."""

    def handle(request):
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = httpx.Client(transport=httpx.MockTransport(handle))
    return RemoteRetriever("http://far/", version=version, client=client)


GOOD = {"document": {"id": "1", "contents": "a\nb"}, "score": 1.0}


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"result": {}},
        {"result": []},
        {"result": [[GOOD], [GOOD]]},
        {"result": [GOOD]},
        {"result": [["text"]]},
        {"result": [[{"document": None, "score": 1.0}]]},
        {"result": [[{"document": {"id": "1"}, "score": 1.0}]]},
        {"result": [[GOOD | {"score": "1"}]]},
        {"result": [[{"document": GOOD["document"]}]]},
    ],
)
def test_answers_of_another_form_are_malformed(body):
    with pytest.raises(MalformedOutput):
        remote_of(httpx.Response(200, json=body)).search("a", 3)


def test_an_answer_that_is_no_json_or_no_number():
    with pytest.raises(MalformedOutput, match="not JSON"):
        remote_of(httpx.Response(200, text="<html>")).search("a", 3)
    body = '{"result": [[{"document": {"id": "1", "contents": "a"}, "score": NaN}]]}'
    with pytest.raises(MalformedOutput, match="must be a finite number"):
        remote_of(httpx.Response(200, text=body)).search("a", 3)


def test_more_than_was_asked_for_is_cut():
    body = {"result": [[GOOD] * 9]}
    assert len(remote_of(httpx.Response(200, json=body)).search("a", 3)) == 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(400, text="why"), Rejected),
        (httpx.Response(408), ToolError),
        (httpx.Response(500), ToolError),
        (httpx.Response(503), ToolError),
        (httpx.Response(429), RateLimited),
        (httpx.Response(204), ToolError),
        (httpx.ConnectError("refused"), ToolError),
        (httpx.ReadTimeout("slow"), ToolError),
    ],
)
def test_failures_have_their_names(answer, error):
    with pytest.raises(ToolError) as caught:
        remote_of(answer).search("a", 3)
    assert type(caught.value) is error


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_comes_through(code):
    with pytest.raises(RateLimited) as caught:
        remote_of(httpx.Response(code, headers={"retry-after": "7"})).search("a", 3)
    assert caught.value.retry_after == 7.0


def test_retry_after_may_be_a_date():
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert retry_after_s("Thu, 01 Jan 2026 12:00:30 GMT", now) == 30.0
    assert retry_after_s("Thu, 01 Jan 2026 11:00:00 GMT", now) == 0.0
    assert retry_after_s(" 12 ", now) == 12.0
    assert retry_after_s("soon", now) is None and retry_after_s(None, now) is None


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(404), httpx.Response(200, text="ok"), httpx.Response(200, json=[]),
     httpx.Response(200, json={"version": 3}), httpx.ConnectError("refused")],
)  # fmt: skip
def test_a_server_without_versions_is_known_by_its_url(answer):
    assert remote_of(answer, version=None).version == "http://far"


def test_the_url_is_checked():
    with pytest.raises(ValueError, match="url is 'far:80'; it must start with http"):
        RemoteRetriever("far:80", version="v")
