"""An endpoint that is a function, in virtual time, and a run of an agent against it."""

import asyncio
import json

import httpx
import pytest

from loomax.agents.search.actions.clock import run_virtual
from loomax.agents.search.actions.config import DelayConfig
from loomax.agents.search.ask import Brain, TagCodec, ask
from loomax.agents.search.endpoint.config import EndpointConfig
from loomax.agents.search.endpoint.conversation import ConversationCodec
from loomax.agents.search.endpoint.engine import EndpointEngine
from loomax.agents.search.endpoint.table import Table
from loomax.agents.search.grammar.openai_tools import OpenAIGrammar
from loomax.agents.search.grammar.search_r1 import SearchR1Grammar
from loomax.agents.search.retrieval.document import Document, Hit

URL = "http://far/v1"


class Library:
    """Finds a document about anything."""

    version = "1"

    def __init__(self):
        self.queries = []

    def search(self, query, k):
        self.queries.append(query)
        return (Hit(Document(query, query, f"about {query}"), 1.0),)


class Endpoint:
    """Answers `script(body) -> Response | exception | list`.

    A list is a stream: a dictionary is one choice of an event, a text a line, a float a wait, an
    exception is raised, and ... hangs.
    """

    def __init__(self, script):
        self.script, self.bodies, self.headers, self.paths = script, [], [], []
        self.open = 0

    async def __call__(self, request):
        body = json.loads(request.content)
        self.bodies.append(body)
        self.headers.append(request.headers)
        self.paths.append(request.url.path)
        answer = self.script(body)
        if answer is ...:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        self.open += 1
        return httpx.Response(200, stream=Stream(self, answer))


class Stream(httpx.AsyncByteStream):
    """A body that knows whether it is still open."""

    def __init__(self, endpoint, parts):
        self.endpoint, self.parts = endpoint, parts

    async def __aiter__(self):
        for part in self.parts:
            if part is ...:
                await asyncio.Event().wait()
            elif isinstance(part, float):
                await asyncio.sleep(part)
            elif isinstance(part, Exception):
                raise part
            else:
                line = part if isinstance(part, str) else json.dumps({"choices": [part]})
                yield f"data: {line}\n\n".encode()

    async def aclose(self):
        if self.endpoint:
            self.endpoint.open -= 1
            self.endpoint = None


def brain_of(endpoint, api="chat", **changes):
    """(engine, brain) of an endpoint."""
    table = Table()
    config = EndpointConfig(URL, "m", "key", api, **changes)
    client = httpx.AsyncClient(transport=httpx.MockTransport(endpoint))
    chat = api == "chat"
    codec = ConversationCodec(table, system="Search.") if chat else TagCodec(table)
    grammar = OpenAIGrammar() if chat else SearchR1Grammar()
    engine = EndpointEngine(config, table, grammar, opening=codec.opening, client=client)
    return Brain(engine, codec, grammar)


@pytest.fixture
def play():
    """Runs an agent against a script; gives (run, endpoint, library)."""

    def play(script, policy=None, *, api="chat", loop=None, question="who ?", **changes):
        async def main():
            endpoint, library = Endpoint(script), Library()
            brain = brain_of(endpoint, api, **changes)
            # The search is inline, since threads know no virtual time.
            async with brain.engine:
                run = await ask(
                    question, brain, library, speculation=policy, loop=loop, inline=True,
                    delay=DelayConfig(1.0, 0.0),
                )  # fmt: skip
            # What is left of the streams that were closed half-way ends in the next turn.
            await asyncio.sleep(0.01)
            assert not endpoint.open
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return run, endpoint, library

        return run_virtual(main())

    return play


@pytest.fixture
def drive():
    """Runs `main(engine, brain, endpoint)` in virtual time."""

    def drive(script, main, *, api="completions", **changes):
        async def outer():
            endpoint = Endpoint(script)
            brain = brain_of(endpoint, api, **changes)
            async with brain.engine:
                result = await main(brain.engine, brain, endpoint)
            assert not endpoint.open
            return result, endpoint

        return run_virtual(outer())

    return drive
