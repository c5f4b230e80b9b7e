"""loomax serve: a language model of a run behind OpenAI's API."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loomax.cli.eval import find_run
from loomax.runtime.config import fail, parse_options

DESCRIPTION = """Serves a run of `loomax train lm` as /v1/chat/completions, /v1/completions and
/v1/models, with /health and /metrics. SIGTERM: no new requests, those that run get --grace
seconds. LOOMAX_API_KEY is the key unless --api-key is given."""


@dataclass(frozen=True)
class Options:
    """What is served, and how."""

    model: str
    """name of a run, or its folder"""
    name: str = ""
    """what clients call the model; default: the name of the run"""
    host: str = "127.0.0.1"
    """address"""
    port: int = 8000
    """port"""
    api_key: str = ""
    """key that requests to /v1 have to carry; default: none"""
    slots: int = 8
    """requests that are generated at once"""
    context: int = 0
    """tokens of a prompt and its answer together; default: the longest rows of the training"""
    tensor: int = 1
    """devices that share every layer: each has a part of the heads, of the MLP and of the cache"""
    waiting: int = 256
    """requests in the queue, above which new ones are refused"""
    grace: float = 30.0
    """seconds that running requests get after SIGTERM"""
    runs: str = "runs"
    """where runs live"""


def run(argv: Sequence[str], prog: str, open_model: Callable[[Options], Any] | None = None) -> None:
    """Args:
    open_model: gives what has `served` and `context` and is entered as long as the server runs.
    """
    options = parse_options(Options, argv, prog, DESCRIPTION)
    at_least = {"slots": 1, "tensor": 1, "waiting": 1, "context": 0, "grace": 0, "port": 0}
    for name, least in at_least.items():
        if getattr(options, name) < least:
            fail(prog, f"--{name} is {getattr(options, name)}: give at least {least}")
    asyncio.run(serve_model(options, open_model or open_run))


def open_run(options: Options) -> Any:
    """The newest parameters of a run, to be entered.

    Raises:
        ValueError: there are not so many devices.
    """
    path = find_run(options.model, Path(options.runs))

    from loomax.runtime.compile import setup_cpu

    setup_cpu()

    from loomax.agents.server.trained import open_trained

    mesh = tensor_mesh(options.tensor) if options.tensor > 1 else None
    return open_trained(path, slots=options.slots, context=options.context, mesh=mesh)


def tensor_mesh(count: int) -> Any:
    """A mesh of the first `count` devices of this process.

    Raises:
        ValueError: there are fewer.
    """
    import jax

    from loomax.runtime.mesh import MeshConfig, make_mesh

    devices = jax.local_devices()
    if count > len(devices):
        raise ValueError(f"--tensor is {count}, but there are {len(devices)} devices: give fewer")
    return make_mesh(MeshConfig(fsdp=1, tensor=count), devices[:count])


async def serve_model(options: Options, open_model: Callable[[Options], Any]) -> None:
    """Opens the model, then serves it until a signal."""
    from loomax.agents.server.config import ServerConfig
    from loomax.agents.server.run import serve

    async with open_model(options) as opened:
        name = options.name or os.path.basename(os.path.normpath(options.model))
        config = ServerConfig(
            name,
            opened.context,
            api_key=options.api_key or os.environ.get("LOOMAX_API_KEY", ""),
            waiting=options.waiting,
            grace_s=options.grace,
        )
        print(f"serving {name} on http://{options.host}:{options.port}/v1", flush=True)
        await serve(opened.served, config, options.host, options.port)
