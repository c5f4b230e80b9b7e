"""A run of `loomax train` as the brain of a search agent, without a server between."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from loomax.agents.search.ask import Brain
from loomax.agents.search.grammar.search_r1 import SearchR1Grammar
from loomax.agents.search.loop.byte_codec import ByteCodec
from loomax.agents.search.loop.config import LoopConfig
from loomax.agents.search.train.brain import is_searcher, load_searcher, searcher_brain
from loomax.agents.server.trained import open_trained


@asynccontextmanager
async def trained_brain(
    run_dir: Path, *, slots: int = 8, context: int = 0
) -> AsyncGenerator[Brain, None]:
    """A model that writes Search-R1's tags, and limits that its context has room for.

    A run of `loomax train search` comes with the words and limits of its world.

    Raises:
        ValueError: see `open_trained` and `load_searcher`.
    """
    if is_searcher(run_dir):
        async with searcher_brain(load_searcher(run_dir), slots=slots) as brain:
            yield brain
        return
    async with open_trained(run_dir, slots=slots, context=context) as model:
        most, codec = LoopConfig(), ByteCodec(model.tokens)
        limits = LoopConfig(
            context=model.context,
            turn=min(most.turn, max(1, model.context // 4)),
            observation=min(most.observation, max(len(codec.closing), model.context // 4)),
            draft=min(most.draft, max(1, model.context // 8)),
        )
        yield Brain(model.served.engine, codec, SearchR1Grammar(), limits)
