"""Workers as Ray actors, on any machine of a cluster. Imports no JAX, and Ray when it is used.

Arrays travel through Ray's object store. Ray needs the factory's module on the workers' machines.
"""

import os
import pickle
import socket
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from loomax.agents.workflow.external.arena import Arena, Fields, arena_in, size_of
from loomax.agents.workflow.external.config import PoolConfig
from loomax.agents.workflow.external.process import fields_of
from loomax.agents.workflow.external.protocol import Answer, Request, WorkerDied
from loomax.agents.workflow.external.worker import Host


def ray_engine(**options: Any) -> partial:
    """An engine for `Pool(config, engine=ray_engine(num_cpus=4))`.

    Ray starts a local cluster by forking, which does not go together with JAX once that runs: call
    `ray.init` before JAX is used, or connect to a cluster that runs already.

    Args:
        options: of each actor, as `ray.remote` takes them: num_cpus, resources, runtime_env, ...

    Raises:
        ValueError: Ray is not installed; or, by the pool's start, not started.
    """
    _ray()
    return partial(RayEngine, options=options)


class RayEngine:
    """See `protocol.Engine`."""

    def __init__(self, config: PoolConfig, options: Mapping[str, Any]):
        self._config, self._ray = config, _ray()
        if not self._ray.is_initialized():
            raise ValueError(
                "Ray is not started: call ray.init before JAX is used, or with a cluster's address"
            )
        self._actor = self._ray.remote(**{"num_cpus": 1, **options, "max_restarts": 0})(Actor)
        self.arena = _arena(fields_of(config), config.batch)

    def start(self, index: int) -> "RayWorker":
        """A new worker; its first answer comes when its simulators are made."""
        config = self._config
        fields = {group: dict(specs) for group, specs in fields_of(config).items()}
        actor = self._actor.remote(pickle.dumps((fields, config.batch)))
        first = actor.begin.remote(config.pickled_factory(), config.simulators_of(index))
        return RayWorker(index, self._ray, actor, first, self.arena)

    def wait(self, workers: Sequence[Any], timeout_s: float) -> list[Any]:
        """Those that have an answer or are dead."""
        ready, _ = self._ray.wait([worker.answer for worker in workers], timeout=timeout_s)
        return [worker for worker in workers if worker.answer in ready]

    def close(self) -> None:
        """Nothing is shared; Ray stays as it is."""


class RayWorker:
    """See `protocol.Worker`."""

    def __init__(self, index: int, ray: ModuleType, actor: Any, first: Any, arena: Arena):
        self.index, self.answer = index, first
        self.pid: str | None = None
        self._ray, self._actor, self._arena = ray, actor, arena
        self._request = Request("step", ())

    def send(self, request: Request) -> None:
        """Starts work."""
        # Copies, since the arena is written again while Ray may still hold these.
        arrays = [
            {name: x.copy() for name, x in self._arena.part(request.kind, s.start, s.stop).items()}
            for s in request.shares
        ]
        self._request, self.answer = request, self._actor.run.remote(request, arrays)

    def receive(self) -> Answer:
        """The next answer.

        Raises:
            WorkerDied: it ended without one.
        """
        try:
            answer, outputs, self.pid = self._ray.get(self.answer)
        except self._ray.exceptions.RayActorError as error:
            raise WorkerDied(f"ended ({str(error).splitlines()[0]})") from error
        for share, found in zip(self._request.shares, outputs, strict=False):
            for name, place in self._arena.part("out", share.start, share.stop).items():
                place[...] = found[name]
        return answer

    def kill(self) -> None:
        """Ends it at once."""
        with suppress(ValueError):
            self._ray.kill(self._actor)

    def close(self) -> None:
        """Its simulators are closed first."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.get(self._actor.close.remote(), timeout=5.0)
        self.kill()


class Actor:
    """What Ray runs on a worker."""

    def __init__(self, layout: bytes):
        self._arena = _arena(*pickle.loads(layout))
        self._host: Host | None = None

    def begin(self, factory: bytes, simulators: range) -> tuple[Answer, list, str]:
        """Makes the simulators."""
        try:
            self._host = Host(factory, simulators)
        except Exception:
            return Answer(traceback.format_exc()), [], self._place
        return Answer(), [], self._place

    def run(
        self, request: Request, arrays: list[dict[str, np.ndarray]]
    ) -> tuple[Answer, list[dict[str, np.ndarray]], str]:
        """An answer with its outputs."""
        assert self._host is not None
        parts = [(share.start, share.stop) for share in request.shares]
        for part, given in zip(parts, arrays, strict=True):
            for name, place in self._arena.part(request.kind, *part).items():
                place[...] = given[name]
        answer = self._host.answer(request, self._arena)
        found = [] if answer.error else [self._arena.part("out", *part) for part in parts]
        return answer, found, self._place

    def close(self) -> None:
        """Closes the simulators."""
        if self._host is not None:
            self._host.close()

    @property
    def _place(self) -> str:
        return f"{os.getpid()} on {socket.gethostname()}"


def _arena(fields: Fields, rows: int) -> Arena:
    return arena_in(memoryview(bytearray(size_of(fields, rows))), fields, rows)


def _ray() -> ModuleType:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ValueError("Ray is not installed: pip install 'loomax[ray]'") from error
    return ray
