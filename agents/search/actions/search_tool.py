"""Retrieval as a tool."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from loomax.agents.search.actions.call import Tool
from loomax.agents.search.actions.config import ToolConfig
from loomax.agents.search.errors import MalformedOutput, Rejected
from loomax.agents.search.retrieval.document import Hit
from loomax.agents.search.retrieval.retriever import Retriever, check_search


def search_tool(
    retriever: Retriever,
    *,
    k: int = 3,
    config: ToolConfig | None = None,
    inline: bool = False,
) -> Tool:
    """The tool `search`, which takes a `query` and gives a tuple of hits.

    Args:
        k: documents at most.
        inline: searches in the event loop instead of a thread: for an index in memory, which
            answers faster than a thread starts, and for virtual time.
    """

    async def run(arguments: Mapping[str, Any]) -> Sequence[Hit]:
        query = arguments.get("query")
        if not isinstance(query, str) or not query.strip():
            raise Rejected(f"query is {query!r}; it must be a string with a word in it")
        try:
            check_search(query, k)
        except ValueError as error:
            raise Rejected(str(error)) from None
        if inline:
            return retriever.search(query, k)
        return await asyncio.to_thread(retriever.search, query, k)

    return Tool(
        name="search",
        run=run,
        safety="read_only",
        config=config or ToolConfig(),
        version=lambda: retriever.version,
        check=hits,
    )


def hits(value: object) -> tuple[Hit, ...]:
    """A checked result; an empty one is fine.

    Raises:
        MalformedOutput: it is no sequence of hits.
    """
    if not isinstance(value, Sequence) or not all(isinstance(hit, Hit) for hit in value):
        raise MalformedOutput(f"a search gave {type(value).__name__}, not hits")
    return tuple(value)
