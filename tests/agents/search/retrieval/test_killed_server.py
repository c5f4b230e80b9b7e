"""A retrieval server that is killed: the agent goes on without it, and its index is whole."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from loomax.agents.search.actions.call import Call
from loomax.agents.search.actions.config import ToolConfig
from loomax.agents.search.actions.search_tool import search_tool
from loomax.agents.search.actions.server import ActionServer
from loomax.agents.search.retrieval.build import build_index, open_index
from loomax.agents.search.retrieval.client import RemoteRetriever
from loomax.agents.search.retrieval.config import IndexConfig
from loomax.agents.search.retrieval.document import Document


@pytest.mark.multiprocess
def test_a_killed_server_leaves_its_index(tmp_path):
    # bm25s would import JAX, which takes long.
    pytest.importorskip("tantivy")
    documents = [Document("1", "Cube", "a red cube"), Document("2", "Disc", "a disc")]
    build_index(tmp_path, documents, IndexConfig(engine="tantivy"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["search", "serve", "--index", str(tmp_path), "--port", str(port)]
    url, environment = f"http://127.0.0.1:{port}", {**os.environ, "JAX_PLATFORMS": "cpu"}

    def start():
        made = subprocess.Popen([sys.executable, "-m", "loomax", *words], env=environment,
                                stderr=subprocess.DEVNULL)  # fmt: skip
        for _ in range(1200):
            try:
                if httpx.get(f"{url}/health").is_success:
                    return made
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError("the server did not start")

    async def find(query):
        remote = RemoteRetriever(url, version="v")
        config = ToolConfig(attempts=2, backoff_s=0.01, timeout_s=5.0)
        async with ActionServer([search_tool(remote, k=1, config=config)]) as server:
            outcome = await server.call(Call("search", {"query": query}))
        remote.close()
        return outcome

    process = start()
    try:
        assert [hit.document.id for hit in asyncio.run(find("red cube")).value] == ["1"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        outcome = asyncio.run(find("red cube"))
        assert (outcome.status, outcome.attempts) == ("error", 2) and "Connect" in outcome.detail
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        assert open_index(tmp_path).search("disc", 1)[0].document.id == "2"
    finally:
        process.kill()
        process.wait()
