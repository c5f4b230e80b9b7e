"""A model that is a function, an engine that plays it, and a run of an agent on both."""

import asyncio
import math
from random import Random

import pytest

from loomax.agents.search.actions.call import Tool
from loomax.agents.search.actions.clock import run_virtual
from loomax.agents.search.actions.config import ToolConfig
from loomax.agents.search.actions.search_tool import hits
from loomax.agents.search.actions.server import ActionServer
from loomax.agents.search.engine_protocol import Load, Piece, StepRecord
from loomax.agents.search.grammar.search_r1 import SearchR1Grammar
from loomax.agents.search.loop.agent import SearchAgent
from loomax.agents.search.loop.codec import TextCodec
from loomax.agents.search.loop.config import LoopConfig
from loomax.agents.search.loop.session import Parts
from loomax.agents.search.loop.turn import Turn
from loomax.agents.search.retrieval.document import Document, Hit
from loomax.agents.search.speculate.scheduler import Speculator


class Words:
    """Each word is a token; ids are given as words come."""

    def __init__(self):
        self.known = []

    def ids(self, text):
        for word in text.split():
            if word == "unsayable":
                raise ValueError("there is no token for this")
            if word not in self.known:
                self.known.append(word)
        return [self.known.index(word) for word in text.split()]

    def pieces(self, ids):
        return [f"{self.known[number]} " for number in ids]


class PlayedRequest:
    def __init__(self, engine, tokens, sampling, kind):
        self.engine, self.tokens, self.sampling, self.kind = engine, tokens, sampling, kind
        self.halted = False

    async def __aiter__(self):
        async for piece in self.engine.play(self):
            yield piece


class PlayedEngine:
    """Plays `model(text, draft) -> text`, a token each `token_s` unless it is told otherwise.

    A model may also give an exception, or None to hang; after a text in a tuple comes its least
    probability.
    """

    def __init__(self, model, words, token_s=0.01, timing=None):
        self.model, self.words, self.token_s, self.timing = model, words, token_s, timing
        self.held, self.seen, self.listeners = [], [], []

    async def submit(self, tokens, sampling, *, kind="main", parent=None):
        assert parent is None or parent in self.held
        return self.add(list(tokens), sampling, kind)

    async def fork(self, request, forced, sampling, *, at="prompt", kind="draft"):
        assert request in self.held
        base = request.tokens if at == "prompt" else request.tokens + request.generated
        return self.add([*base, *forced], sampling, kind)

    def add(self, tokens, sampling, kind):
        made = PlayedRequest(self, tokens, sampling, kind)
        made.generated = []
        self.held.append(made)
        self.seen.append(made)
        return made

    def halt(self, request):
        request.halted = True

    def abort(self, request):
        if request in self.held:
            self.held.remove(request)

    def load(self):
        return Load(len(self.held), 0, 8, 1000, 100.0)

    def watch(self, listen):
        self.listeners.append(listen)

    async def play(self, request):
        text = "".join(self.words.pieces(request.tokens)).strip()
        reply = self.model(text, request.sampling.sample)
        reply, least = reply if isinstance(reply, tuple) else (reply, 1.0)
        if isinstance(reply, Exception):
            await asyncio.sleep(self.token_s)
            raise reply
        if reply is None:
            await asyncio.Event().wait()
        left = self.words.ids(reply)
        while left and not request.halted:
            size, wait = 1, self.token_s
            if self.timing:
                size, wait = self.timing.randint(1, 5), self.timing.choice([0.0, 0.1, 1.0])
            await asyncio.sleep(wait)
            for listen in self.listeners:
                listen(StepRecord(1, 0, wait))
            part, left = left[:size], left[size:]
            request.generated += part
            yield Piece(tuple(part), (math.log(least),) * len(part))


class Library:
    """A search tool that answers `found(query)`, which may be a float to sleep first."""

    def __init__(self, found=None, seconds=1.0):
        self.found, self.seconds, self.running, self.queries = found, seconds, 0, []

    async def __call__(self, arguments):
        query = arguments["query"]
        self.queries.append(query)
        self.running += 1
        try:
            seconds = self.seconds(query) if callable(self.seconds) else self.seconds
            await asyncio.sleep(seconds)
            found = self.found(query) if self.found else f"about {query}"
            if isinstance(found, Exception):
                raise found
            if not isinstance(found, str):
                return found
            return [Hit(Document(query, query, found), 1.0)] if found else []
        finally:
            self.running -= 1


class Stage:
    """What a run leaves behind."""

    def __init__(self, run, engine, server, library):
        self.run, self.engine, self.server, self.library = run, engine, server, library

    @property
    def kinds(self):
        return [event.kind for event in self.run.events]

    def all(self, kind):
        return [event for event in self.run.events if event.kind == kind]

    @property
    def calls(self):
        """Keys of the calls that were really asked for, in order."""
        log = self.server.log.events
        return [event.key for event in log if event.kind == "call" and not event.speculative]


async def _play(model, policy, config, library, tool, timing, grammar, codec, prior, token_s):
    words = codec.words if codec else Words()
    engine = PlayedEngine(model, words, token_s, Random(timing) if timing is not None else None)
    run_tool = Tool("search", library, "read_only", ToolConfig(**tool), check=hits)
    async with ActionServer([run_tool]) as server:
        speculator = Speculator(engine, policy, prior) if policy else None
        parts = Parts(
            engine,
            server,
            grammar or SearchR1Grammar(),
            codec or TextCodec(words),
            config or LoopConfig(),
            speculator,
        )
        run = await SearchAgent(parts).run("who ?", name="r")
        assert not engine.held and not library.running
        assert asyncio.all_tasks() == {asyncio.current_task()}
    return Stage(run, engine, server, library)


@pytest.fixture(scope="session")
def play():
    """Runs an agent to its end in virtual time, and looks that nothing is left."""

    def play(
        model,
        policy=None,
        *,
        config=None,
        found=None,
        seconds=1.0,
        timing=None,
        grammar=None,
        codec=None,
        prior=None,
        token_s=0.01,
        **tool,
    ):
        library = Library(found, seconds)
        return run_virtual(
            _play(model, policy, config, library, tool, timing, grammar, codec, prior, token_s)
        )

    return play


@pytest.fixture(scope="session")
def parts_of():
    """Parts for tests that drive the agent themselves: (parts, engine, library)."""

    def make(model, policy=None, *, config=None, found=None, seconds=1.0, **tool):
        words = Words()
        engine, library = PlayedEngine(model, words), Library(found, seconds)
        server = ActionServer(
            [Tool("search", library, "read_only", ToolConfig(**tool), check=hits)]
        )
        speculator = Speculator(engine, policy) if policy else None
        parts = Parts(
            engine, server, SearchR1Grammar(), TextCodec(words), config or LoopConfig(), speculator
        )
        return parts, engine, library

    return make


@pytest.fixture(scope="session")
def plan():
    """A model that makes some searches and answers; drafts guess as they are told.

    `guesses[step]` is the text after the forced tag, or one for each draft, from the first.
    """

    def make(queries, guesses=(), answer="done", thought="hm hm hm"):
        def model(text, sample):
            step = text.count("</information>")
            if text.endswith("<search>"):
                guess = guesses[step] if step < len(guesses) else "</search>"
                return guess[sample - 1] if isinstance(guess, list) else guess
            if step < len(queries):
                return f"<think> {thought} </think> <search> {queries[step]} </search>"
            return f"<think> {thought} </think> <answer> {answer} </answer>"

        return model

    return make


@pytest.fixture
def words():
    return Words()


@pytest.fixture
def run_turn(words):
    """Reads a turn of a request through the tags."""

    def run(request, most):
        turn = Turn(SearchR1Grammar(), TextCodec(words), most)
        return run_virtual(turn.read(request))

    return run
