"""Workers as processes of this machine, with arrays in shared memory. Imports no JAX."""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from loomax.agents.workflow.external.arena import arena_in, create
from loomax.agents.workflow.external.config import PoolConfig
from loomax.agents.workflow.external.protocol import Answer, Request, WorkerDied
from loomax.agents.workflow.external.worker import Host

# Seconds for a worker to close its simulators before it is killed.
GRACE_S = 5.0


def fields_of(config: PoolConfig) -> dict:
    """The groups of arrays in a pool's arena."""
    return {"step": config.inputs, "reset": config.resets, "out": config.outputs}


class Processes:
    """An engine; see `protocol.Engine`."""

    def __init__(self, config: PoolConfig):
        self._config, self._fields = config, fields_of(config)
        self._context = multiprocessing.get_context("spawn")
        self._memory = create(self._fields, config.batch)
        self.arena = arena_in(self._memory.buf, self._fields, config.batch)

    def start(self, index: int) -> "Process":
        """A new worker; its first answer comes when its simulators are made."""
        ours, theirs = self._context.Pipe()
        config = self._config
        fields = {group: dict(specs) for group, specs in self._fields.items()}
        arguments = (
            theirs,
            self._memory.name,
            pickle.dumps((fields, config.batch)),
            config.pickled_factory(),
            config.simulators_of(index),
        )
        # Daemons are ended with their parent when that exits in order.
        process = self._context.Process(
            target=serve, args=arguments, name=f"loomax-{index}", daemon=True
        )
        process.start()
        # So that the pipe ends when the worker does.
        theirs.close()
        return Process(index, process, ours)

    def wait(self, workers: Sequence[Any], timeout_s: float) -> list[Any]:
        """Those that have an answer or are dead."""
        ready = wait([worker.pipe for worker in workers], timeout_s)
        return [worker for worker in workers if worker.pipe in ready]

    def close(self) -> None:
        """Unlinks the shared memory."""
        self.arena.groups.clear()
        self._memory.unlink()
        # Fails while someone holds a view; the block is gone with its last view.
        with suppress(BufferError):
            self._memory.close()


class Process:
    """A worker; see `protocol.Worker`."""

    def __init__(self, index: int, process: multiprocessing.process.BaseProcess, pipe: Connection):
        self.index, self._process, self.pipe = index, process, pipe

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def send(self, request: Request) -> None:
        """Starts work."""
        with suppress(OSError):
            self.pipe.send(request)

    def receive(self) -> Answer:
        """The next answer.

        Raises:
            WorkerDied: it ended without one.
        """
        try:
            return self.pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(GRACE_S)
            code = self._process.exitcode
            how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            raise WorkerDied(f"ended with {how}") from error

    def kill(self) -> None:
        """Ends it at once, and waits until it is gone."""
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def close(self) -> None:
        """The closed pipe tells it to end."""
        self.pipe.close()
        self._process.join(GRACE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def serve(pipe: Connection, memory: str, layout: bytes, factory: bytes, simulators: range) -> None:
    """What a worker runs. The pipe ends when the parent closes it, or is killed."""
    # Ctrl-C reaches all processes of a terminal; the parent's end is enough.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        host = Host(factory, simulators)
    except BaseException:
        pipe.send(Answer(traceback.format_exc()))
        return
    block = SharedMemory(memory)
    fields, rows = pickle.loads(layout)
    arena = arena_in(block.buf, fields, rows)
    pipe.send(Answer())
    with suppress(EOFError, OSError):
        while True:
            pipe.send(host.answer(pipe.recv(), arena))
    host.close()
    arena.groups.clear()
    with suppress(BufferError):
        block.close()


def _end_with_parent() -> None:
    """Also in the middle of a step that does not end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
