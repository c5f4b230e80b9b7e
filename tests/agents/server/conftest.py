"""An engine that plays a function, and a real server of it with the official client."""

import asyncio
import math
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import openai
import pytest

from loomax.agents.search.engine_protocol import EngineError, Load, Piece
from loomax.agents.search.loop.byte_codec import ByteTokens
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.run import make_server
from loomax.agents.server.served import Served
from loomax.models.tokenizer.bpe import BEGIN, END

HALF = math.log(0.5)


class PlayedRequest:
    def __init__(self, engine, tokens, sampling, kind):
        self.engine, self.tokens, self.sampling, self.kind = engine, tokens, sampling, kind
        self.halted = self.aborted = False
        self.given = 0

    async def __aiter__(self):
        async for piece in self.engine.play(self):
            yield piece


class PlayedEngine:
    """Plays `model(prompt, sampling) -> str`; a str is sent token by token.

    In a list, an exception is raised where it stands, a number is a token, a function is waited
    for until it is true, and None hangs for ever.
    """

    def __init__(self, tokens):
        self.tokens, self.model, self.seen = tokens, (lambda prompt, sampling: "hello"), []
        self.waiting, self.running, self.refuse = 0, 0, ""
        self.logprob = HALF
        self.changed = threading.Condition()

    async def submit(self, tokens, sampling, *, kind="main", parent=None):
        if self.refuse:
            raise EngineError(self.refuse)
        assert parent is None
        request = PlayedRequest(self, list(tokens), sampling, kind)
        self.seen.append(request)
        return request

    async def fork(self, request, forced, sampling, *, at="prompt", kind="draft"):
        assert at == "prompt" and not request.aborted
        return await self.submit([*request.tokens, *forced], sampling, kind=kind)

    def halt(self, request):
        request.halted = True

    def abort(self, request):
        with self.changed:
            request.aborted = True
            self.changed.notify_all()

    def load(self):
        return Load(self.running, self.waiting, 8, 1000, 100.0)

    def watch(self, listen):
        pass

    def text(self, request):
        return b"".join(map(self.tokens.bytes_of, request.tokens)).decode()

    async def play(self, request):
        reply = self.model(self.text(request), request.sampling)
        for part in reply if isinstance(reply, list) else [reply]:
            if isinstance(part, Exception):
                raise part
            if part is None:
                await asyncio.Event().wait()
            if callable(part):
                while not part():
                    await asyncio.sleep(0.005)
                continue
            ids = [part] if isinstance(part, int) else self.tokens.ids(part)
            for token in ids:
                if request.halted or request.given >= request.sampling.most:
                    return
                await asyncio.sleep(0)
                request.given += 1
                yield Piece((token,), (self.logprob,))

    def wait_aborted(self, request, seconds=10.0):
        """Returns whether a request was aborted."""
        with self.changed:
            return self.changed.wait_for(lambda: request.aborted, seconds)

    def wait_seen(self, count):
        """Waits until so many requests have come."""
        for _ in range(1000):
            if len(self.seen) >= count:
                return
            time.sleep(0.01)
        raise AssertionError(f"{len(self.seen)} requests, not {count}")


class Stage:
    """A running server."""

    def __init__(self, engine, gate, url, config, loop, server):
        self.engine, self.gate, self.url, self.config = engine, gate, url, config
        self.loop, self.server = loop, server
        self.client = self.connect()

    def connect(self, **changes):
        given = {"api_key": self.config.api_key or "none", "max_retries": 0, "timeout": 20.0}
        return openai.OpenAI(base_url=f"{self.url}/v1", **(given | changes))

    def chat(self, text="hi", **changes):
        given = {"model": "toy", "messages": [{"role": "user", "content": text}]}
        return self.client.chat.completions.create(**(given | changes))

    def complete(self, prompt="hi", **changes):
        return self.client.completions.create(**({"model": "toy", "prompt": prompt} | changes))

    def drain(self):
        self.loop.call_soon_threadsafe(self.server.drain)


@contextmanager
def running(config):
    tokens = ByteTokens("default")
    engine = PlayedEngine(tokens)
    served = Served(engine, tokens, (BEGIN,), frozenset({END}), fault=lambda: engine.refuse)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        # Small, so that a client that does not read is noticed soon.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        held.listen()
        loops, servers, ready = [], [], threading.Event()

        async def main():
            loops.append(asyncio.get_running_loop())
            servers.append(make_server(served, config, ready.set))
            await servers[0].serve([held])

        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        assert ready.wait(60)
        (server,) = servers
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        stage = Stage(engine, server.gate, url, config, loops[0], server)
        try:
            yield stage
        finally:
            stage.client.close()
            server.should_exit = True
            thread.join(60)
    assert not thread.is_alive(), "the server did not stop"
    assert all(request.aborted for request in engine.seen), "a request was left in the engine"


@pytest.fixture(scope="module")
def stage():
    """One server for the tests of a file; each sets the model that it wants."""
    with running(ServerConfig("toy", 512)) as made:
        yield made


@pytest.fixture
def start():
    """Servers with other limits: `with start(waiting=1) as stage`."""
    return lambda **changes: running(replace(ServerConfig("toy", 512), **changes))
