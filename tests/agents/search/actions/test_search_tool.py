"""Retrieval as a tool, in a thread and inline."""

import asyncio
import threading

import pytest

from loomax.agents.search.actions.call import Call
from loomax.agents.search.actions.clock import run_virtual
from loomax.agents.search.actions.search_tool import search_tool
from loomax.agents.search.actions.server import ActionServer
from loomax.agents.search.errors import RateLimited
from loomax.agents.search.retrieval.document import Document, Hit

HIT = Hit(Document("1", "one", "text"), 1.0)


class Fixed:
    """A retriever that gives, or raises, one thing."""

    version = "v1"

    def __init__(self, gives):
        self.gives, self.asked, self.thread = gives, [], None

    def search(self, query, k):
        self.asked.append((query, k))
        self.thread = threading.current_thread()
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


def ask(retriever, query="a", run=run_virtual, inline=True):
    async def main():
        async with ActionServer([search_tool(retriever, k=2, inline=inline)]) as server:
            return await server.call(Call("search", {"query": query}))

    return run(main())


def test_hits_come_back_whether_in_a_thread_or_not():
    inline, threaded = Fixed([HIT]), Fixed([HIT])
    assert ask(inline).value == (HIT,) == ask(threaded, run=asyncio.run, inline=False).value
    assert inline.asked == threaded.asked == [("a", 2)]
    assert inline.thread is threading.main_thread() is not threaded.thread


def test_nothing_found_is_no_fault():
    assert ask(Fixed([])).value == ()


@pytest.mark.parametrize("query", ["", "  ", 3, None, "x" * 5000])
def test_what_is_no_query_is_rejected(query):
    retriever = Fixed([HIT])
    assert ask(retriever, query).status == "rejected" and retriever.asked == []


@pytest.mark.parametrize("gives", ["text", {"hits": []}, [1], None])
def test_what_are_no_hits_is_malformed(gives):
    assert ask(Fixed(gives)).status == "malformed"


def test_errors_of_the_retriever_have_their_names():
    assert ask(Fixed(RateLimited("429"))).status == "rate_limited"
    assert ask(Fixed(OSError("disk"))).status == "error"
