"""loomax serve: a language model of a run behind OpenAI's API."""

import asyncio
import math
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loomax.cli.runs import find_run
from loomax.runtime.config import fail, parse_options

LAST_PORT = 65_535
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
    """seconds from SIGTERM to the end of the process; running requests get nearly all of them"""
    connections: int = 1024
    """connections at once, above which the one that idles longest is closed"""
    idle: float = 60.0
    """seconds that a connection may be without a whole request's head"""
    slow_body: float = 60.0
    """seconds in which a request's body has to arrive"""
    unread: float = 60.0
    """seconds that a client may leave an answer unread"""
    runs: str = "runs"
    """where runs live"""


def run(argv: Sequence[str], prog: str, open_model: Callable[[Options], Any] | None = None) -> None:
    """Args:
    open_model: gives what has `served` and `context` and is entered as long as the server runs.
    """
    options = parse_options(Options, argv, prog, DESCRIPTION)
    check(options, prog)
    with ExitStack() as stack:
        # A port that is in use is told before anything is loaded.
        for held in (sockets := listening(options)):
            stack.enter_context(held)
        asyncio.run(serve_model(options, open_model or open_run, sockets))


def check(options: Options, prog: str) -> None:
    """Ends the program in one line where an option is out of range."""
    at_least = {"slots": 1, "tensor": 1, "waiting": 1, "context": 0, "port": 0, "connections": 1}
    for name, least in at_least.items():
        if getattr(options, name) < least:
            fail(prog, f"--{name} is {getattr(options, name)}: give at least {least}")
    if options.port > LAST_PORT:
        fail(prog, f"--port is {options.port}: give at most {LAST_PORT}, or 0 for any free one")
    if not 0 <= options.grace < math.inf:
        fail(prog, f"--grace is {options.grace}: give at least 0 seconds, and a finite number")
    for name in ("idle", "slow_body", "unread"):
        seconds, flag = getattr(options, name), name.replace("_", "-")
        if not 0 < seconds < math.inf:
            fail(prog, f"--{flag} is {seconds}: give more than 0 seconds, and a finite number")


def listening(options: Options) -> list[socket.socket]:
    """Sockets that are bound.

    Raises:
        OSError: see `bind`.
    """
    from loomax.agents.server.listen import bind

    return bind(options.host, options.port)


def open_run(options: Options) -> Any:
    """The newest parameters of a run, to be entered.

    Raises:
        ValueError: there are not so many devices.
    """
    path = find_run(options.model, Path(options.runs), ["language model", "searcher"])

    from loomax.runtime.compile import setup_cpu

    setup_cpu()

    from loomax.agents.search.train.brain import is_searcher
    from loomax.agents.server.trained import open_trained

    if is_searcher(path):
        from loomax.agents.server.searcher import open_searcher

        if options.tensor > 1 or options.context:
            raise ValueError(f"{path} is a searcher: leave --tensor and --context out")
        return open_searcher(path, slots=options.slots)
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


async def serve_model(
    options: Options, open_model: Callable[[Options], Any], sockets: Sequence[socket.socket]
) -> None:
    """Opens the model, then serves it until a signal."""
    from loomax.agents.server.config import ServerConfig
    from loomax.agents.server.run import serve

    port = sockets[0].getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    async with open_model(options) as opened:
        name = options.name or os.path.basename(os.path.normpath(options.model))
        config = ServerConfig(
            name,
            opened.context,
            api_key=options.api_key or os.environ.get("LOOMAX_API_KEY", ""),
            waiting=options.waiting,
            grace_s=options.grace,
            connections=options.connections,
            idle_s=options.idle,
            body_s=options.slow_body,
            unread_s=options.unread,
        )

        def say() -> None:
            print(f"serving {name} on http://{host}:{port}/v1", flush=True)

        await serve(opened.served, config, sockets, say)
