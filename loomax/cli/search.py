"""loomax search: an index of documents, what it finds, a server of it, and an agent on it."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from loomax.cli.runs import find_run
from loomax.runtime.config import fail, parse_options, take_command
from loomax.runtime.options import Bound, OutFile, OutFolder

DESCRIPTION = """usage: loomax search index FOLDER|FILE.jsonl|world [--out DIR] [--engine tantivy]
       loomax search find "words" [--index DIR] [--k 5]
       loomax search serve [--index DIR] [--host H] [--port N]
       loomax search ask "question" [--index DIR] (--model RUN | --url URL --name MODEL)
                                                      (--help after each lists options)

`index` reads text files of a folder, or JSON lines with id, title and text (or contents); a build
that is killed leaves the old index. `serve` speaks Search-R1's /retrieve. `ask` shows every step of
an agent: turns, drafts, searches, what was found before it was asked for, and the answer."""
INDEX = "indexes/default"
Hits = Annotated[int, Bound(1, 1000)]
Port = Annotated[int, Bound(0, 65_535)]


@dataclass(frozen=True)
class IndexOptions:
    """What is indexed, and where to."""

    source: Positional[str]
    """a folder of .md, .rst and .txt files, a .jsonl file, or `world`: the invented one of
    `loomax train search`"""
    out: OutFolder = INDEX
    """folder of the index"""
    engine: Literal["bm25s", "tantivy"] = "bm25s"
    """bm25s: held in memory; tantivy: stays on disk"""
    wait: bool = False
    """wait for another process that builds there, instead of refusing"""


@dataclass(frozen=True)
class FindOptions:
    """What is looked for."""

    query: Positional[str]
    """words"""
    index: str = INDEX
    """folder of the index"""
    k: Hits = 5
    """documents at most"""


@dataclass(frozen=True)
class ServeOptions:
    """Where the server listens."""

    index: str = INDEX
    """folder of the index"""
    host: str = "127.0.0.1"
    """address"""
    port: Port = 8000
    """port"""


@dataclass(frozen=True)
class AskOptions:
    """What is asked, and whom."""

    question: Positional[str]
    """what the agent has to find out"""
    index: str = INDEX
    """folder of the index"""
    model: str = ""
    """a run of `loomax train`: its name or folder"""
    url: str = ""
    """an OpenAI-compatible endpoint instead, up to and with /v1"""
    name: str = ""
    """the endpoint's name of its model"""
    api_key: str = ""
    """key of the endpoint; default: LOOMAX_API_KEY"""
    api: Literal["chat", "completions", "searcher"] = "chat"
    """how the endpoint is asked: by tool calls, by text with Search-R1's tags, or in the words of a
    run of `loomax train search` that `loomax serve` serves"""
    limit: Literal["max_tokens", "max_completion_tokens", "none"] = "max_tokens"
    """the endpoint's name of the limit of tokens; none: send no limit"""
    temperature: bool = True
    """whether to send the endpoint a temperature"""
    logprobs: bool = True
    """whether to ask the endpoint for log-probabilities, by which drafts are judged"""
    boldness: Annotated[float, Bound(0, 1)] = 0.0
    """0 only hides tool time; up to 1, more steps are taken without reasoning"""
    speculate: bool = True
    """whether to draft at all"""
    k: Hits | None = None
    """documents of one search; default: 3, or 1 for a run of `loomax train search`"""
    steps: Annotated[int, Bound(0, 1000)] = 8
    """searches at most"""
    seconds: Annotated[float, Bound(0, 1e6, above=True)] = 120.0
    """for the whole question"""
    seed: int = 0
    """of the sampling"""
    trace: OutFile = ""
    """also write the events to this file, as JSON lines"""
    runs: str = "runs"
    """where runs live"""


def run(argv: Sequence[str], prog: str) -> None:
    name, rest = take_command(argv, "command of search", PROGRAMS, prog, DESCRIPTION)
    # bm25s computes with JAX if it is there, and must not take an accelerator for it; a model may.
    if not any(word.partition("=")[0] == "--model" for word in argv):
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    PROGRAMS[name](rest, f"{prog} {name}")


def run_index(argv: Sequence[str], prog: str) -> None:
    """loomax search index SOURCE."""
    options = parse_options(IndexOptions, argv, prog, "Indexes documents.")

    from loomax.agents.search.retrieval.build import build_index
    from loomax.agents.search.retrieval.config import IndexConfig
    from loomax.agents.search.retrieval.corpus import read_corpus

    config = IndexConfig(engine=options.engine)
    if options.source == "world":
        from loomax.agents.search.world.config import WorldConfig
        from loomax.agents.search.world.documents import INDEX as WORLD
        from loomax.agents.search.world.documents import documents as describe
        from loomax.agents.search.world.world import make_world

        config = replace(WORLD, engine=options.engine)
        documents = describe(make_world(WorldConfig()))
    else:
        documents = read_corpus(options.source, skip=[Path(options.out)], note=tell)
    folder = build_index(options.out, documents, config, wait=options.wait)
    print(f"{len(documents)} documents, {options.engine}: {folder}")


def tell(text: str) -> None:
    """A line for people, beside what is printed for programs."""
    print(text, file=sys.stderr)


def run_find(argv: Sequence[str], prog: str) -> None:
    """loomax search find QUERY."""
    options = parse_options(FindOptions, argv, prog, "Searches an index.")

    from loomax.agents.search.retrieval.build import open_index

    hits = open_index(options.index).search(options.query, options.k)
    for hit in hits:
        start = " ".join(hit.document.text.split())[:80]
        print(f"{hit.score:8.3f}  {hit.document.id}  {hit.document.title}  {start}")
    if not hits:
        print("nothing found")


def run_serve(argv: Sequence[str], prog: str) -> None:
    """loomax search serve."""
    options = parse_options(ServeOptions, argv, prog, "Serves an index over HTTP.")

    import uvicorn

    from loomax.agents.search.retrieval.build import open_index
    from loomax.agents.search.retrieval.server import application
    from loomax.agents.server.listen import bind

    with ExitStack() as stack:
        # A port that is in use is told before the index is read.
        for held in (sockets := bind(options.host, options.port)):
            stack.enter_context(held)
        served = application(open_index(options.index))
        settings = uvicorn.Config(served, ws="none", lifespan="off", log_level="warning")
        port = sockets[0].getsockname()[1]
        print(f"serving {options.index} on http://{options.host}:{port}/retrieve", flush=True)
        uvicorn.Server(settings).run(sockets)


def run_ask(argv: Sequence[str], prog: str) -> None:
    """loomax search ask QUESTION."""
    options = parse_options(AskOptions, argv, prog, "Lets a search agent answer a question.")
    if bool(options.model) == bool(options.url):
        fail(prog, "give either --model RUN or --url URL")
    if options.url and not options.name:
        fail(prog, "--url needs --name, the name of the model there")

    from loomax.agents.search.trace.events import write

    done = asyncio.run(ask_agent(options))
    if options.trace:
        write(options.trace, done.events)
    if done.answer is None:
        print(f"{prog}: no answer: {done.end}: {done.detail}", file=sys.stderr)
        raise SystemExit(1)
    print(done.answer)


async def ask_agent(options: AskOptions) -> Any:
    """The run of an agent, shown while it happens."""
    from loomax.agents.search.ask import ask, summary
    from loomax.agents.search.retrieval.build import open_index
    from loomax.agents.search.speculate.config import dial
    from loomax.agents.search.trace.live import Live

    speculation = dial(options.boldness) if options.speculate else None
    opening = open_brain(options)
    retriever = open_index(options.index)
    async with opening as brain:
        loop = replace(brain.limits, steps=options.steps, deadline_s=options.seconds)
        done = await ask(
            options.question,
            brain,
            retriever,
            documents=options.k,
            loop=loop,
            speculation=speculation,
            seed=options.seed,
            sink=Live(),
        )
    print(summary(done))
    return done


def open_brain(options: AskOptions) -> Any:
    """The engine that is asked, to be entered."""
    if options.model:
        path = find_run(options.model, Path(options.runs), ["language model", "searcher"])

        from loomax.runtime.compile import setup_cpu

        setup_cpu()

        from loomax.agents.server.brain import trained_brain

        return trained_brain(path)

    from loomax.agents.search.ask import endpoint
    from loomax.agents.search.endpoint.config import EndpointConfig

    config = EndpointConfig(
        options.url,
        options.name,
        options.api_key or os.environ.get("LOOMAX_API_KEY", ""),
        "chat" if options.api == "chat" else "completions",
        logprobs=options.logprobs,
        temperature=options.temperature,
        limit=options.limit,
    )
    return endpoint(config, spoken=options.api == "searcher")


PROGRAMS: Mapping[str, Callable[[Sequence[str], str], None]] = {
    "index": run_index,
    "find": run_find,
    "serve": run_serve,
    "ask": run_ask,
}
