"""A run of `loomax train search` as a model to be served: text in words of its world."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from loomax.agents.engine.engine import Engine
from loomax.agents.search.train.brain import load_searcher, searcher_brain
from loomax.agents.search.world.spoken import LIMITS
from loomax.agents.search.world.vocabulary import Vocabulary
from loomax.agents.server.served import Served
from loomax.agents.server.tokens import WordTokens
from loomax.models.tokenizer.bpe import BEGIN, END


@dataclass(frozen=True)
class ServedSearcher:
    """A searcher that runs.

    Args:
        context: tokens of a prompt and its answer together.
    """

    served: Served
    context: int


@asynccontextmanager
async def open_searcher(run_dir: Path, *, slots: int) -> AsyncGenerator[ServedSearcher, None]:
    """The newest parameters of a run in an engine, with everything compiled.

    Raises:
        ValueError: see `load_searcher`.
    """
    searcher = load_searcher(run_dir)
    async with searcher_brain(searcher, slots=slots) as brain:
        engine, tokens = brain.engine, WordTokens(Vocabulary(searcher.sizes))
        assert isinstance(engine, Engine)
        served = Served(engine, tokens, (BEGIN,), frozenset({END}), fault=lambda: engine.fault)
        yield ServedSearcher(served, LIMITS.context)
