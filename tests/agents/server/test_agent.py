"""Search agents against this server over real sockets: the two ends of one API."""

import asyncio
import re

import httpx
import pytest

from loomax.agents.search.actions.config import ToolConfig
from loomax.agents.search.ask import ask, endpoint, summary
from loomax.agents.search.endpoint.config import EndpointConfig
from loomax.agents.search.retrieval.document import Document, Hit
from loomax.agents.search.speculate.config import PREDICT_VERIFY, SpeculationConfig

BOLD = SpeculationConfig("bold", aggressive=1, threshold=0.4)
QUERIES = ("red", "blue")


class Library:
    """Finds a document about anything."""

    version = "1"

    def __init__(self):
        self.queries = []

    def search(self, query, k):
        self.queries.append(query)
        return (Hit(Document(query, query, f"about {query}"), 1.0),)


def guess(done, sampling):
    """The first draft of a step is right."""
    return QUERIES[done] if done < len(QUERIES) and not sampling.sample else "nothing"


def calls(prompt, sampling, think):
    """Searches twice and answers."""
    done = prompt.count("<|im_start|>tool")
    if prompt.endswith('"arguments": '):
        return f'{{"query": "{guess(done, sampling)}"}}}}\n</tool_call>'
    if done == len(QUERIES):
        return "It is grün."
    made = f'{{"name": "search", "arguments": {{"query": "{QUERIES[done]}"}}}}'
    return ["<think> I", think(done), f" wonder </think><tool_call>\n{made}\n</tool_call>"]


def tags(prompt, sampling, think):
    done = prompt.count("</information>") - 1
    if prompt.endswith("<search>"):
        return f" {guess(done, sampling)} </search> more"
    if done == len(QUERIES):
        return " <think> so </think> <answer> It is grün. </answer> more"
    return [" <think> I", think(done), f" </think> <search> {QUERIES[done]} </search> more"]


@pytest.mark.parametrize("policy", [None, PREDICT_VERIFY, BOLD])
@pytest.mark.parametrize(("api", "model"), [("chat", calls), ("completions", tags)])
def test_an_agent(start, api, model, policy):
    library = Library()

    async def main(url):
        config = EndpointConfig(f"{url}/v1", "toy", "secret", api, priority=True)
        async with endpoint(config) as brain:
            return await ask("who ?", brain, library, speculation=policy)

    def think(done):
        """Reasons until the drafts of a step have asked for what they guess."""
        if policy is not PREDICT_VERIFY:
            return lambda: True
        return lambda: set(QUERIES[: done + 1]) <= set(library.queries)

    with start(api_key="secret", context=4096) as stage:
        stage.engine.model = lambda prompt, sampling: model(prompt, sampling, think)
        run = asyncio.run(main(stage.url))
        seen = stage.engine.seen
        assert all(stage.engine.wait_aborted(request) for request in seen)
    assert (run.answer, run.steps) == ("It is grün.", 2), run.detail
    assert set(library.queries) >= set(QUERIES)
    kinds = [event.kind for event in run.events]
    samples = [request.sampling.sample for request in seen]
    if policy is PREDICT_VERIFY:
        # The drafts of a step are one request; those of the last one may come too late.
        assert samples.count(3) >= 2 and kinds.count("hit") == 2
    if policy is BOLD:
        (taken,) = [event for event in run.events if event.kind == "unverified"]
        assert taken.confidence == pytest.approx(0.5) and library.queries == list(QUERIES)
    if policy is None:
        assert samples == [0, 0, 0]
    assert re.match(r"2 searches in \d+\.\d+ s: \d+ drafts", summary(run))


def test_a_full_server_is_waited_for(start):
    """Its 429 comes with a Retry-After, which the agent keeps to."""

    async def main(stage):
        async def free():
            await asyncio.sleep(0.3)
            stage.engine.waiting = 0

        attempts = ToolConfig(attempts=5, backoff_s=0.05, ttl_s=0.0)
        config = EndpointConfig(f"{stage.url}/v1", "toy", attempts=attempts)
        async with endpoint(config) as brain:
            freeing = asyncio.create_task(free())
            run = await ask("who ?", brain, Library())
            await freeing
            return run

    with start(context=4096, waiting=1, retry_after_s=1) as stage:
        stage.engine.model, stage.engine.waiting = (lambda prompt, sampling: "fine"), 20
        run = asyncio.run(main(stage))
        page = httpx.get(f"{stage.url}/metrics").text
    assert run.answer == "fine"
    for status in (429, 200):
        assert f'loomax_requests_total{{route="chat",status="{status}"}} 1.0' in page


def test_an_agent_that_is_cancelled_leaves_nothing_on_the_server(start):
    async def main(stage):
        config = EndpointConfig(f"{stage.url}/v1", "toy")
        async with endpoint(config) as brain:
            run = asyncio.create_task(ask("who ?", brain, Library(), speculation=PREDICT_VERIFY))
            await asyncio.to_thread(stage.engine.wait_seen, 5)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)

    with start(context=4096) as stage:
        stage.engine.model = lambda prompt, sampling: ["<think> on and", None]
        asyncio.run(main(stage))
        assert all(stage.engine.wait_aborted(request) for request in stage.engine.seen)
