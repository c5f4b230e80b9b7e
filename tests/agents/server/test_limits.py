"""Clients that do not read, are slow or idle, and bodies of any kind: none holds the server."""

import json
import socket
import time
from contextlib import ExitStack

import httpx
import pytest

from tests.agents.server.test_life import figures

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"


def port_of(stage):
    return int(stage.url.rsplit(":", 1)[1])


@pytest.fixture
def connect():
    """Opens connections; with a small buffer those that are not going to be read."""
    with ExitStack() as held:

        def connect(stage, receive=0):
            raw = held.enter_context(socket.socket())
            if receive:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            raw.settimeout(60)
            raw.connect(("127.0.0.1", port_of(stage)))
            return raw

        yield connect


def posted(**body):
    body = json.dumps({"model": "toy", "prompt": "x", **body}).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def flooded(stage, raw):
    """Asks for more than a client that does not read can be sent."""
    stage.engine.model = lambda prompt, sampling: ["a b " * 2000, None]
    raw.sendall(posted(stream=True, logprobs=0, max_tokens=9000))
    stage.engine.wait_seen(1)
    request = stage.engine.seen[-1]
    held = stage.server.server_state.connections
    wait_for(lambda: request.aborted or any(each.flow.write_paused for each in list(held)))


def rest(raw):
    """What comes until the server closes."""
    parts = []
    try:
        while part := raw.recv(65_536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def wait_for(true):
    for _ in range(3000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def connections(stage):
    return len(stage.server.server_state.connections)


def test_the_server_stops_whoever_is_connected(start, connect):
    """The fixture fails if its thread does not end."""
    with start(context=100_000, grace_s=0.4) as stage:
        unread, slow, early, idle = (connect(stage, receive=2048) for _ in range(4))
        flooded(stage, unread)
        slow.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        early.sendall(HEAD)
        wait_for(lambda: connections(stage) == 4)
        stage.drain()
        wait_for(lambda: stage.server.should_exit)
        answer = rest(slow)
        assert b" 503 " in answer and b"connection: close" in answer.lower()
        assert rest(idle) == rest(early) == b""
    assert stage.engine.seen[0].aborted and not connections(stage)


def test_a_second_signal_needs_no_reader(start, connect):
    with start(context=100_000, grace_s=600.0) as stage:
        raw = connect(stage, receive=2048)
        flooded(stage, raw)
        stage.server.handle_exit(15, None)
        wait_for(lambda: stage.gate.draining)
        stage.server.handle_exit(15, None)
    assert stage.engine.seen[0].aborted


def test_a_client_that_does_not_read_is_given_up(start, connect):
    with start(context=100_000, unread_s=0.2) as stage:
        raw = connect(stage, receive=2048)
        flooded(stage, raw)
        assert stage.engine.wait_aborted(stage.engine.seen[0])
        wait_for(lambda: not connections(stage))
        raw.close()
        wait_for(lambda: ("loomax_requests_total", "499", "completions") in figures(stage))


def test_a_slow_body_is_given_up(start, connect):
    with start(body_s=0.2) as stage:
        raw = connect(stage)
        raw.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        answer = rest(raw)
        assert b" 408 " in answer and b"did not arrive within 0.2 seconds" in answer
        assert figures(stage)["loomax_requests_total", "408", "completions"] == 1


@pytest.mark.parametrize("sent", [b"", HEAD, posted(max_tokens=1) + HEAD])
def test_an_idle_connection_is_closed(start, sent, connect):
    """Also one with a part of a head, first or after an answer."""
    with start(idle_s=0.3) as stage:
        raw = connect(stage)
        raw.sendall(sent)
        answer = rest(raw)
        assert (b" 200 " in answer) == sent.startswith(HEAD + b"Content")


def test_the_longest_idle_connection_makes_room(start, connect):
    with start(connections=3) as stage:
        held = [connect(stage) for _ in range(3)]
        wait_for(lambda: connections(stage) == 3)
        last = connect(stage)
        assert rest(held[0]) == b""
        last.sendall(posted(max_tokens=1))
        assert b" 200 " in last.recv(100)
        held[1].sendall(posted(max_tokens=1))
        assert b" 200 " in held[1].recv(100)


def test_where_nobody_is_idle_the_new_one_is_refused(start, connect):
    with start(connections=2, retry_after_s=7) as stage:
        stage.engine.model = lambda prompt, sampling: ["x", None]
        held = [connect(stage) for _ in range(2)]
        for raw in held:
            raw.sendall(posted())
        stage.engine.wait_seen(2)
        answer = rest(connect(stage))
        assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 7\r\n" in answer.lower()
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert error["message"] == "there are too many connections"
        assert connections(stage) == 2


def test_of_too_many_slow_bodies_the_first_gives_way(start, connect):
    with start(connections=6) as stage:
        held = []
        for _ in range(4):
            held.append(connect(stage))
            held[-1].sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
            wait_for(lambda: len(stage.gate.bodies._arriving) == min(len(held), 3))
        answer = rest(held[0])
        assert b" 503 " in answer and b"too many requests are arriving" in answer
        assert len(stage.gate.bodies._arriving) == 3


def test_bodies_are_bounded_together(start, connect):
    """17 of the greatest length are one too many; what is held is given back."""
    with start(body_bytes=1000) as stage:
        held = [connect(stage) for _ in range(17)]
        for count, raw in enumerate(held, 1):
            raw.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + b" " * 990)
            wait_for(lambda count=count: stage.gate.bodies._bytes >= min(990 * count, 15_840))
        assert b"too many requests are arriving" in rest(held[0])
        for raw in held[1:]:
            raw.sendall(b" " * 10)
            assert b" 400 " in raw.recv(100)
        wait_for(lambda: stage.gate.bodies._bytes == 0)


@pytest.mark.parametrize("announced", [True, False])
def test_a_long_body_is_told_so_before_its_end(start, announced, connect):
    with start(body_bytes=1000) as stage:
        raw = connect(stage)
        how = b"Content-Length: 2000" if announced else b"Transfer-Encoding: chunked"
        raw.sendall(HEAD + how + b"\r\n\r\n" + (b"" if announced else b"3e9\r\n" + b" " * 1001))
        answer = rest(raw)
        assert b" 413 " in answer and b"connection: close" in answer.lower()
        assert figures(stage)["loomax_requests_total", "413", "completions"] == 1
        assert stage.gate.bodies._bytes == 0


def test_a_long_body_that_is_sent_whole_gets_its_answer(start):
    with start(body_bytes=100_000) as stage:
        for _ in range(5):
            answer = httpx.post(f"{stage.url}/v1/completions", content=b" " * 199_000)
            assert answer.status_code == 413


def test_a_client_that_leaves_within_its_body_is_no_fault(start, caplog, connect):
    with start() as stage:
        for _ in range(3):
            with connect(stage) as raw:
                raw.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
                wait_for(lambda: len(stage.gate.bodies._arriving) == 1)
            wait_for(lambda: not stage.gate.bodies._arriving)
        wait_for(lambda: figures(stage).get(
            ("loomax_requests_total", "499", "completions")) == 3)  # fmt: skip
        assert not caplog.records


def test_what_is_no_http_ends_the_connection_alone(start, caplog, connect):
    with start() as stage:
        stage.engine.model = lambda prompt, sampling: ["x", None]
        raw = connect(stage)
        raw.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert b" 400 " in rest(raw)
        stage.engine.model = lambda prompt, sampling: "x"
        assert stage.chat().choices and "Traceback" not in caplog.text


DIGITS, LONG = b"9" * 4300, b"k" * 100_000
BAD = (
    b"{",
    b"[]",
    b"\xff",
    b"\xed\xa0\x80",
    b'{"\\ud800": 1}',
    b'{"model": "toy", "prompt": "\\udc00"}',
    b'{"temperature": NaN}',
    b'{"model": "toy", "temperature": 1' + b"0" * 400 + b"}",
    b'{"model": "toy", "prompt": "x", "max_tokens": ' + DIGITS + b"}",
    b'{"model": "toy", "seed": ' + DIGITS + DIGITS + b"}",
    b"[" * 100_000,
    b'{"a":' * 500 + b"1" + b"}" * 500,
    b'{"model": "' + LONG + b'"}',
    b'{"' + LONG + b'": 1, "model": "toy"}',
)


def test_the_connection_goes_on_after_any_refusal(start):
    """Each is counted, short, and followed by a good request on the same connection."""
    with start() as stage:
        url, good = f"{stage.url}/v1/completions", {"model": "toy", "prompt": "x", "max_tokens": 1}
        with httpx.Client(timeout=30) as client:
            for place, body in enumerate(BAD):
                answer = client.post(url, content=body)
                assert answer.status_code in (400, 404), body[:50]
                assert len(answer.content) < 3000 and answer.json()["error"]["message"]
                assert client.post(url, json=good).status_code == 200
                assert client.post(f"{stage.url}/v1/nothing", content=body).status_code == 404
                assert connections(stage) == 1, body[:50]
                seen = figures(stage)
                bad = sum(seen.get(("loomax_requests_total", status, "completions"), 0)
                          for status in ("400", "404"))  # fmt: skip
                assert (bad, seen["loomax_requests_total", "200", "completions"]) == (
                    place + 1, place + 1)  # fmt: skip


def test_a_defect_keeps_the_connection_too(start, caplog):
    with start() as stage:
        stage.server.gate.check = lambda samples: 1 / 0
        with httpx.Client(timeout=30) as client:
            for _ in range(3):
                body = {"model": "toy", "prompt": "x"}
                answer = client.post(f"{stage.url}/v1/completions", json=body)
                assert answer.status_code == 500 and "ZeroDivisionError" in answer.text
            assert connections(stage) == 1
        assert figures(stage)["loomax_requests_total", "500", "completions"] == 3
        assert "a request failed" in caplog.text
