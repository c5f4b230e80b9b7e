"""One question, from an index and an engine to an answer and what it took."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from loomax.agents.search.actions.config import DelayConfig, ToolConfig
from loomax.agents.search.actions.search_tool import search_tool
from loomax.agents.search.actions.server import ActionServer
from loomax.agents.search.endpoint.config import EndpointConfig
from loomax.agents.search.endpoint.conversation import ConversationCodec
from loomax.agents.search.endpoint.engine import EndpointEngine
from loomax.agents.search.endpoint.table import Table
from loomax.agents.search.engine_protocol import Engine
from loomax.agents.search.grammar.grammar import Grammar
from loomax.agents.search.grammar.openai_tools import OpenAIGrammar
from loomax.agents.search.grammar.search_r1 import SearchR1Grammar
from loomax.agents.search.loop.agent import Run, SearchAgent
from loomax.agents.search.loop.codec import Codec, TextCodec
from loomax.agents.search.loop.config import LoopConfig
from loomax.agents.search.loop.session import Parts
from loomax.agents.search.retrieval.retriever import Retriever
from loomax.agents.search.speculate.config import SpeculationConfig
from loomax.agents.search.speculate.scheduler import Speculator
from loomax.agents.search.trace.events import Sink
from loomax.agents.search.trace.statistics import statistics
from loomax.agents.search.world.spoken import (
    DOCUMENTS,
    LIMITS,
    spoken_codec,
    spoken_grammar,
)

CHAT = "Answer the question. Search for what you do not know, then answer in a few words."
TAGS = """Answer the question. Reason between <think> and </think>. Search with <search> words
</search>; what is found stands between <information> and </information>. Search as often as needed.
Put the answer alone between <answer> and </answer>.
Question: {question}
"""


@dataclass(frozen=True)
class Brain:
    """An engine and how it is spoken to.

    Args:
        limits: of a run.
        documents: of one search.
    """

    engine: Engine
    codec: Codec
    grammar: Grammar
    limits: LoopConfig = field(default_factory=LoopConfig)
    documents: int = 3


class TagCodec(TextCodec):
    """Search-R1's tags for a model that has to be told of them."""

    def prompt(self, question: str) -> tuple[int, ...]:
        """See `Codec`."""
        return super().prompt(TAGS.format(question=question))


@asynccontextmanager
async def endpoint(config: EndpointConfig, *, spoken: bool = False) -> AsyncGenerator[Brain, None]:
    """An endpoint, by tool calls or by tags.

    Args:
        spoken: it serves a run of `loomax train search`, which knows no other words than its
            world's; asked by completions.
    """
    table, limits, documents = Table(), LoopConfig(), Brain.documents
    codec: Codec
    grammar: Grammar
    if spoken:
        config, limits = replace(config, api="completions"), LIMITS
        documents = DOCUMENTS
        codec, grammar = spoken_codec(table), spoken_grammar()
    elif config.api == "chat":
        codec, grammar = ConversationCodec(table, system=CHAT), OpenAIGrammar()
    else:
        codec, grammar = TagCodec(table), SearchR1Grammar()
    async with EndpointEngine(config, table, grammar, opening=codec.opening) as engine:
        yield Brain(engine, codec, grammar, limits, documents)


async def ask(
    question: str,
    brain: Brain,
    retriever: Retriever,
    *,
    documents: int | None = None,
    loop: LoopConfig | None = None,
    speculation: SpeculationConfig | None = None,
    tool: ToolConfig | None = None,
    inline: bool = False,
    delay: DelayConfig | None = None,
    seed: int = 0,
    sink: Sink | None = None,
) -> Run:
    """Answers one question.

    Args:
        documents: of one search at most; None takes the brain's.
        loop: limits; None takes the brain's.
        inline: see `search_tool`.
        delay: added to every search, to see what speculation does about slow tools.
        sink: gets the events as they happen.
    """
    most = brain.documents if documents is None else documents
    found = search_tool(retriever, k=most, config=tool, inline=inline)
    async with ActionServer([found], delay=delay) as server:
        speculator = Speculator(brain.engine, speculation) if speculation else None
        parts = Parts(
            brain.engine, server, brain.grammar, brain.codec, loop or brain.limits, speculator
        )
        return await SearchAgent(parts).run(question, name="ask", seed=seed, sink=sink)


def summary(run: Run) -> str:
    """One line about what a run took."""
    found = statistics([run.events])
    drafts = sum(event.kind in ("draft", "unverified", "refused") for event in run.events)
    return (
        f"{run.steps} searches in {run.seconds:.2f} s: {drafts} drafts, {found.hits:.0f} hits, "
        f"{found.unverified:.0f} taken without reasoning, {found.saved_s:.2f} s of tool time "
        f"hidden, {found.wasted:.0f} tokens wasted"
    )
