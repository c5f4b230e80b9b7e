"""A pool of workers that steps a batch of simulators. Imports no JAX."""

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from loomax.agents.workflow.external.config import PoolConfig
from loomax.agents.workflow.external.crew import Crew
from loomax.agents.workflow.external.process import Processes
from loomax.agents.workflow.external.protocol import Engine, Request
from loomax.agents.workflow.external.rows import even_shares, shares_of
from loomax.agents.workflow.external.simulator import Arrays, ArraySpec


class Pool:
    """Simulators in workers, stepped together.

        with Pool(PoolConfig(factory, inputs, outputs, batch=64, workers=8)) as pool:
            outputs = pool.step({"action": actions})

    A worker that is killed, dies or hangs is started again, and its simulators are brought back:
    from their last snapshot, or from the last reset, by the inputs since then. Calls come back
    with the results of an undisturbed run if the simulators are deterministic. Calls from several
    threads take turns.

    Args:
        engine: what runs the workers; by default processes of this machine.
    """

    def __init__(self, config: PoolConfig, engine: Callable[[PoolConfig], Engine] = Processes):
        self.config = config
        self._engine = engine
        self._lock = threading.RLock()
        self._held = _Held()
        self._closed = False
        weakref.finalize(self, self._held.end)

    def __enter__(self) -> "Pool":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def pids(self) -> tuple[int | str | None, ...]:
        """The workers' processes; none before the start."""
        return self._held.crew.pids if self._held.crew else ()

    def start(self) -> None:
        """Starts all workers and waits for them; a first call does so too.

        Raises:
            SimulatorError: one could not make its simulators; with the reason.
        """
        with self._lock:
            if self._held.crew is None:
                self._held.crew = Crew(self.config, self._engine(self.config))
                self._closed = False
                try:
                    self._held.crew.start()
                except BaseException:
                    self.close()
                    raise

    def close(self) -> None:
        """Ends the workers and gives their memory back; their state is lost."""
        with self._lock:
            self._closed = True
            self._held.end()

    def step(
        self, arrays: Arrays, rows: np.ndarray | None = None, caller: str = "pool"
    ) -> dict[str, np.ndarray]:
        """The outputs of one step.

        Args:
            arrays: a row for every row of `rows`.
            rows: numbers of the rows, by default all in order; whole simulators. Without state
                there are none.
            caller: named when something fails.

        Raises:
            ValueError: arrays or rows that were not declared.
            SimulatorError: a simulator raised something, or its worker failed too often.
        """
        return self._call("step", arrays, rows, caller)

    def reset(
        self, arrays: Arrays, rows: np.ndarray | None = None, caller: str = "pool"
    ) -> dict[str, np.ndarray]:
        """The outputs at the start of an episode; else as `step`."""
        if not self.config.resets:
            raise ValueError(f"{caller}: the pool declares no resets: give PoolConfig some")
        return self._call("reset", arrays, rows, caller)

    def _call(
        self, kind: str, arrays: Arrays, rows: np.ndarray | None, caller: str
    ) -> dict[str, np.ndarray]:
        config = self.config
        specs = config.inputs if kind == "step" else config.resets
        if config.stateful:
            rows = np.arange(config.batch) if rows is None else rows
            slots, shares = shares_of(config, rows)
        elif rows is not None:
            raise ValueError(f"{caller}: the pool keeps no state, so it takes no rows")
        else:
            slots, shares = even_shares(config, _length(arrays))
        _check(arrays, specs, len(slots), caller)
        with self._lock:
            if self._held.crew is None and self._closed:
                raise ValueError(f"{caller}: the pool is closed: start it again")
            self.start()
            crew = self._held.crew
            assert crew is not None
            for name, place in crew.arena.groups[kind].items():
                place[slots] = arrays[name]
            try:
                crew.call(Request(kind, shares), caller)
            except BaseException:
                if not crew.usable:
                    self.close()
                raise
            return {name: x[slots] for name, x in crew.arena.groups["out"].items()}


@dataclass
class _Held:
    """What has to be given back even if the pool is forgotten."""

    crew: Crew | None = field(default=None)

    def end(self) -> None:
        if self.crew is not None:
            self.crew.close()
            self.crew = None


def _length(arrays: Arrays) -> int:
    return max((len(x) for x in arrays.values() if np.ndim(x)), default=0)


def _check(arrays: Arrays, specs: Mapping[str, ArraySpec], rows: int, caller: str) -> None:
    if set(arrays) != set(specs):
        raise ValueError(
            f"{caller}: got {', '.join(sorted(arrays)) or 'nothing'}; declared are "
            f"{', '.join(sorted(specs))}"
        )
    for name, spec in specs.items():
        x, shape = arrays[name], (rows, *spec.shape)
        if x.shape != shape or x.dtype != np.dtype(spec.dtype):
            raise ValueError(
                f"{caller}: {name!r} is {x.dtype}{x.shape}, declared is {spec.dtype}{shape}"
            )
