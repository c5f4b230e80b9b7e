"""Clients that go away, servers that are told to stop, and what Prometheus sees of it."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families


def endless(prompt, sampling):
    """Two tokens, and then none."""
    return ["one two", None]


def figures(stage):
    page = httpx.get(f"{stage.url}/metrics").text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def send(stage, **body):
    """A connection on which a request was sent."""
    port = int(stage.url.rsplit(":", 1)[1])
    body = json.dumps({"model": "toy", "prompt": "x", **body}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    raw = socket.create_connection(("127.0.0.1", port))
    raw.sendall(head.encode() + body)
    return raw


def test_a_client_that_leaves_mid_stream_disturbs_nobody(start):
    with start() as stage:
        gone = threading.Event()
        stage.engine.model = lambda prompt, sampling: (
            endless(prompt, sampling) if "leave" in prompt else ["stay ", gone.is_set, "to the end"]
        )
        kept = []
        other = threading.Thread(target=lambda: kept.append(text_of(stage.chat("x", stream=True))))
        other.start()
        stage.engine.wait_seen(1)
        stream = stage.chat("leave", stream=True)
        next(iter(stream))
        request = stage.engine.seen[-1]
        assert not request.aborted
        stream.close()
        assert stage.engine.wait_aborted(request)
        gone.set()
        other.join()
        assert kept == ["stay to the end"]
        assert figures(stage)["loomax_requests_total", "499", "chat"] == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_before_the_first_token(start, stream):
    with start() as stage:
        stage.engine.model = lambda prompt, sampling: [None]
        with send(stage, stream=stream, n=2):
            stage.engine.wait_seen(2)
            assert not any(request.aborted for request in stage.engine.seen)
        assert all(map(stage.engine.wait_aborted, stage.engine.seen))


def test_a_connection_that_breaks_is_noticed(start):
    """No goodbye at all: the socket is closed with data unread, which resets it."""
    with start() as stage:
        stage.engine.model = endless
        with send(stage, stream=True, max_tokens=400) as raw:
            assert raw.recv(10) == b"HTTP/1.1 2"
        assert stage.engine.wait_aborted(stage.engine.seen[-1])


def test_drain_under_load(start):
    with start(grace_s=600.0, retry_after_s=3) as stage:
        release = threading.Event()
        stage.engine.model = lambda prompt, sampling: ["begun ", release.is_set, "and ended"]
        results = []
        running = [threading.Thread(target=lambda: results.append(text_of(stage.chat(stream=True))))
                   for _ in range(4)]  # fmt: skip
        for thread in running:
            thread.start()
        stage.engine.wait_seen(4)
        stage.drain()
        while not stage.gate.draining:
            time.sleep(0.01)
        with pytest.raises(openai.InternalServerError, match="shutting down") as caught:
            stage.chat()
        assert caught.value.status_code == 503
        assert caught.value.response.headers["retry-after"] == "3"
        assert httpx.get(f"{stage.url}/health").status_code == 503
        release.set()
        for thread in running:
            thread.join()
        assert results == ["begun and ended"] * 4


@pytest.mark.parametrize("stream", [True, False])
def test_grace_ends(start, stream):
    with start(grace_s=0.2) as stage:
        stage.engine.model = endless
        errors = []

        def ask():
            try:
                list(stage.chat(stream=stream))
            except openai.APIError as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        stage.engine.wait_seen(1)
        stage.drain()
        thread.join()
        assert "shutting down" in str(errors[0]) and stage.engine.seen[0].aborted


def test_a_second_signal_does_not_wait(start):
    with start(grace_s=600.0) as stage:
        stage.engine.model = endless
        errors = []

        def ask():
            try:
                list(stage.chat(stream=True))
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        stage.engine.wait_seen(1)
        stage.server.handle_exit(signal.SIGTERM, None)
        while not stage.gate.draining:
            time.sleep(0.01)
        assert not stage.engine.seen[0].aborted
        stage.server.handle_exit(signal.SIGTERM, None)
        thread.join()
        assert errors and stage.engine.wait_aborted(stage.engine.seen[0])


def test_metrics(start):
    with start() as stage:
        stage.engine.model = lambda prompt, sampling: "a b c d"
        tokens = len(stage.engine.tokens.ids("a b c d"))
        stage.chat()
        list(stage.chat(stream=True, n=2))
        stage.complete(max_tokens=2)
        with pytest.raises(openai.BadRequestError):
            stage.chat(top_p=0.5)
        stage.engine.waiting = 7
        seen = figures(stage)
        assert seen["loomax_requests_total", "200", "chat"] == 2
        assert seen["loomax_requests_total", "200", "completions"] == 1
        assert seen["loomax_requests_total", "400", "chat"] == 1
        assert seen["loomax_generated_tokens_total",] == 3 * tokens + 2
        prompts = [len(request.tokens) for request in stage.engine.seen]
        assert seen["loomax_prompt_tokens_total",] == prompts[0] + prompts[1] + prompts[3]
        assert seen["loomax_time_to_first_token_seconds_count",] == 3
        assert seen["loomax_request_seconds_count", "chat"] == 3
        assert seen["loomax_time_per_token_seconds_count",] == 3
        assert (seen["loomax_requests_waiting",], seen["loomax_slots",]) == (7, 8)


PROCESS = """
import asyncio, sys
from loomax.agents.search.engine_protocol import Load, Piece
from loomax.cli import serve
from loomax.agents.search.loop.byte_codec import ByteTokens
from loomax.agents.server.served import Served

tokens = ByteTokens("bytes")

class Request:
    async def __aiter__(self):
        yield Piece((97,), (0.0,))
        # The test says when to go on.
        await asyncio.to_thread(sys.stdin.readline)
        for number in range(11):
            yield Piece((97,), (0.0,))

class Engine:
    async def submit(self, tokens, sampling, *, kind="main", parent=None):
        return Request()
    def halt(self, request): pass
    def abort(self, request): print("aborted", flush=True)
    def load(self): return Load(0, 0, 8, 1, 0.0)
    def watch(self, listen): pass

class Opened:
    served = Served(Engine(), tokens, (1,))
    context = 100
    async def __aenter__(self): return self
    async def __aexit__(self, *_): print("engine closed", flush=True)

serve.run(["--model", "toy", "--port", sys.argv[1], "--grace", sys.argv[2]], "loomax serve",
          lambda options: Opened())
"""


@pytest.mark.multiprocess
def test_sigterm_of_a_process_under_load():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(port), "600"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0)
        for _ in range(600):
            try:
                client.models.list()
                break
            except openai.APIConnectionError:
                time.sleep(0.05)
        stream = client.completions.create(model="toy", prompt="x", max_tokens=50, stream=True)
        chunks = iter(stream)
        texts = [next(chunks).choices[0].text]
        process.send_signal(signal.SIGTERM)
        while httpx.get(f"http://127.0.0.1:{port}/health").status_code != 503:
            time.sleep(0.01)
        with pytest.raises(openai.InternalServerError, match="shutting down"):
            client.completions.create(model="toy", prompt="x")
        process.stdin.write("go on\n")
        process.stdin.flush()
        texts += [chunk.choices[0].text for chunk in chunks if chunk.choices]
        assert len("".join(texts)) == 12
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0 and out.splitlines()[-1] == "engine closed"
    finally:
        process.kill()
        process.communicate()
