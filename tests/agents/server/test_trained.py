"""A run's model in the real engine, behind the real server."""

import asyncio
import socket
import threading
import time
from dataclasses import replace

import jax
import openai
import pytest

from loomax.agents.pretrain.config import VOCABULARY
from loomax.agents.pretrain.presets import CONFIGS
from loomax.agents.pretrain.report import write_config
from loomax.agents.search.ask import ask
from loomax.agents.search.engine_protocol import Sampling
from loomax.agents.search.loop.byte_codec import ByteTokens
from loomax.agents.search.retrieval.document import Document, Hit
from loomax.agents.server.brain import trained_brain
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.run import make_server
from loomax.agents.server.trained import open_trained
from loomax.models.lm import create, safetensors
from loomax.models.lm.presets import transformer_debug
from loomax.models.tokenizer.bpe import BEGIN
from loomax.runtime.mesh import MeshConfig, make_mesh


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run as training leaves it, but for the training."""
    path = tmp_path_factory.mktemp("runs") / "toy"
    model = replace(transformer_debug("attention"), self_layers=1, vocab=VOCABULARY["bytes"])
    config = replace(CONFIGS["lm-debug"], model=model)
    write_config(path / "config.json", config)
    params = create(config.model, key=jax.random.key(0))
    safetensors.save(path / "model.safetensors", config.model, params)
    return path


@pytest.fixture(scope="module")
def served(run_dir):
    """(client, tokens of greedy decoding in the engine itself)."""
    loops, ready, direct = [], threading.Event(), []

    async def main(held):
        async with open_trained(run_dir, slots=2, context=64) as opened:
            prompt = (BEGIN, *opened.tokens.ids("hello"))
            request = await opened.served.engine.submit(prompt, Sampling(12))
            direct.extend([token async for piece in request for token in piece.tokens])
            opened.served.engine.abort(request)
            config = ServerConfig("toy", opened.context, grace_s=5.0)
            server = make_server(opened.served, config)
            loops.append((asyncio.get_running_loop(), server, opened.served.engine))
            ready.set()
            await server.serve([held])

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()

        def work():
            try:
                asyncio.run(main(held))
            finally:
                ready.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert ready.wait(300) and loops
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        with openai.OpenAI(base_url=url, api_key="x", max_retries=0, timeout=60) as client:
            yield client, direct, loops[0][2]
        loops[0][0].call_soon_threadsafe(loops[0][1].drain)
        thread.join()


def text_of(tokens):
    return b"".join(map(ByteTokens("bytes").bytes_of, tokens)).decode("utf-8", "replace")


def test_a_mesh_changes_no_token(run_dir, served):
    mesh = make_mesh(MeshConfig(fsdp=1, tensor=2), jax.devices()[:2])

    async def main():
        async with open_trained(run_dir, slots=2, context=64, mesh=mesh) as opened:
            prompt = (BEGIN, *opened.tokens.ids("hello"))
            request = await opened.served.engine.submit(prompt, Sampling(12))
            return [token async for piece in request for token in piece.tokens]

    assert asyncio.run(main()) == served[1]


def test_what_the_engine_generates_is_what_clients_read(served):
    client, direct, engine = served
    asked = {"model": "toy", "prompt": "hello", "temperature": 0, "max_tokens": 12}
    answer = client.completions.create(**asked, n=2, logprobs=0)
    assert [choice.text for choice in answer.choices] == [text_of(direct)] * 2
    assert answer.usage.completion_tokens == 2 * len(direct)
    assert all(value < 0 for value in answer.choices[0].logprobs.token_logprobs)
    chunks = client.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == text_of(direct)
    assert not engine.scheduler.held


def test_seeds_hold_and_samples_differ(served):
    client, _, _ = served
    asked = {"model": "toy", "prompt": "hello", "max_tokens": 12, "n": 2, "seed": 5}
    first, again = (
        [choice.text for choice in client.completions.create(**asked).choices] for _ in range(2)
    )
    assert first == again and first[0] != first[1]


def test_a_client_that_leaves_frees_the_engine(served):
    client, _, engine = served
    prompt, free = "h" * 8, engine.memory.free
    stream = client.completions.create(
        model="toy", prompt=prompt, max_tokens=50, stream=True, temperature=1.5, stop=["zzz"]
    )
    next(iter(stream))
    stream.close()
    for _ in range(1000):
        if not engine.scheduler.held:
            break
        time.sleep(0.01)
    assert not engine.scheduler.held and engine.memory.free == free


def test_an_agent_thinks_with_it(run_dir):
    """The parameters are random: there is no answer, but a run that ends by its own rules."""

    class Library:
        version = "1"

        def search(self, query, k):
            return (Hit(Document("1", "a", "b"), 1.0),)

    async def main():
        async with trained_brain(run_dir, slots=2, context=64) as brain:
            brain = replace(brain, limits=replace(brain.limits, faults=1))
            return await ask("hi", brain, Library())

    run = asyncio.run(main())
    assert run.end in ("faults", "context") and run.answer is None


def test_a_run_without_parameters(tmp_path):
    write_config(tmp_path / "config.json", CONFIGS["lm-debug"])

    async def main():
        async with open_trained(tmp_path, slots=2):
            pass

    with pytest.raises(ValueError, match="has no checkpoint yet; train it first"):
        asyncio.run(main())
