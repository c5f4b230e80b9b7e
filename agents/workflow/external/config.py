"""Settings of a pool of workers. Imports no JAX."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from loomax.agents.workflow.external.simulator import ArraySpec, Factory

NOTHING: Mapping[str, ArraySpec] = MappingProxyType({})


@dataclass(frozen=True)
class PoolConfig:
    """Simulators in worker processes.

    Args:
        factory: `factory(index)` makes a simulator. It is pickled, so it stands at the top level
            of a module; a module that imports no JAX makes workers start faster.
        inputs, outputs: rows of what `step` takes and gives.
        batch: rows, over all simulators; at most that many where no state is kept.
        workers: processes.
        simulators: objects, `batch / simulators` rows each, spread over the workers; by default
            one a worker. A microbatch is made of whole simulators: to cut a batch into k
            microbatches take a multiple of k, best of k times the workers.
        resets: rows of what `reset` takes; it gives what `step` gives.
        stateful: whether a step depends on those before it. Without state any number of rows up to
            `batch` may be stepped, and workers share them evenly.
        start_s, step_s: seconds that a worker may take to start, and for a step of its simulators.
        restarts: of a worker in one call, before the call fails.
        snapshot_every: steps after which a simulator that has `snapshot` and `restore` is asked
            for its state.
        replay_limit: steps that are kept of a simulator without them, to replay since its reset.

    Raises:
        ValueError: a count below 1, rows that simulators cannot share, simulators that workers
            cannot, or a factory that cannot be pickled.
    """

    factory: Factory
    inputs: Mapping[str, ArraySpec]
    outputs: Mapping[str, ArraySpec]
    batch: int
    workers: int
    simulators: int | None = None
    resets: Mapping[str, ArraySpec] = field(default_factory=lambda: NOTHING)
    stateful: bool = True
    start_s: float = 60.0
    step_s: float = 60.0
    restarts: int = 2
    snapshot_every: int = 16
    replay_limit: int = 10_000

    def __post_init__(self):
        for name in ("batch", "workers", "count", "start_s", "step_s"):
            if not getattr(self, name) > 0:
                said = "simulators" if name == "count" else name
                raise ValueError(f"{said} is {getattr(self, name)}: it must be above 0")
        for name in ("snapshot_every", "replay_limit"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 1 or more")
        if self.restarts < 0:
            raise ValueError(f"restarts is {self.restarts}: it must be 0 or more")
        if not self.inputs or not self.outputs:
            raise ValueError("a simulator without inputs or outputs: declare at least one of each")
        if not self.stateful and (self.resets or self.count != self.workers):
            raise ValueError("without state there are no resets and one simulator a worker")
        if self.count % self.workers:
            raise ValueError(
                f"{self.count} simulators on {self.workers} workers: give a multiple of the workers"
            )
        if self.stateful and self.batch % self.count:
            raise ValueError(
                f"a batch of {self.batch} on {self.count} simulators: give a multiple of them"
            )
        self.pickled_factory()

    @property
    def count(self) -> int:
        """Of simulators."""
        return self.workers if self.simulators is None else self.simulators

    @property
    def rows_each(self) -> int:
        """Rows of a simulator that keeps state."""
        return self.batch // self.count

    def simulators_of(self, worker: int) -> range:
        """Which simulators a worker has."""
        each = self.count // self.workers
        return range(worker * each, (worker + 1) * each)

    def pickled_factory(self) -> bytes:
        """The factory for other processes.

        Raises:
            ValueError: it cannot be pickled.
        """
        try:
            return pickle.dumps(self.factory)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"factory cannot be pickled ({error}): define it at the top level of a module"
            ) from error
