"""A worker: makes its simulators, then answers requests until its parent is gone.

Imports no JAX. If a user's module does, it gets the CPU: accelerators belong to the parent.
"""

import os
import pickle
import sys
import traceback
from collections.abc import Iterable
from typing import Any

import numpy as np

from loomax.agents.workflow.external.arena import Arena
from loomax.agents.workflow.external.protocol import Answer, Request
from loomax.agents.workflow.external.simulator import Arrays, Resettable, Snapshots


class Host:
    """The simulators of one worker."""

    def __init__(self, factory: bytes, indices: Iterable[int]):
        keep_off_accelerators()
        make = pickle.loads(factory)
        self.simulators = {index: make(index) for index in indices}

    def answer(self, request: Request, arena: Arena) -> Answer:
        """Does what is asked; whatever goes wrong becomes part of the answer."""
        try:
            return self._answer(request, arena)
        except Exception:
            return Answer(traceback.format_exc())

    def close(self) -> None:
        """Closes the simulators that can be closed."""
        for simulator in self.simulators.values():
            getattr(simulator, "close", lambda: None)()

    def _answer(self, request: Request, arena: Arena) -> Answer:
        for index, state in request.restores.items():
            self.simulators[index].restore(pickle.loads(state))
        for share in request.shares:
            given = arena.part(request.kind, share.start, share.stop)
            for x in given.values():
                x.flags.writeable = False
            found = self._call(request.kind, self.simulators[share.simulator], given)
            _write(arena.part("out", share.start, share.stop), found)
        wanted = {index: self.simulators[index] for index in request.snapshots}
        return Answer(
            snapshots={
                index: pickle.dumps(simulator.snapshot(), pickle.HIGHEST_PROTOCOL)
                for index, simulator in wanted.items()
                if isinstance(simulator, Snapshots)
            }
        )

    def _call(self, kind: str, simulator: Any, given: Arrays) -> Arrays:
        if kind == "step":
            return simulator.step(given)
        if not isinstance(simulator, Resettable):
            raise TypeError(f"{type(simulator).__name__} has no reset: define reset(arrays)")
        return simulator.reset(given)


def keep_off_accelerators() -> None:
    """Whether the user's module has imported JAX already or will."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")


def _write(places: dict[str, np.ndarray], found: Arrays) -> None:
    if set(found) != set(places):
        raise ValueError(
            f"the simulator gave {', '.join(sorted(found))}; declared are "
            f"{', '.join(sorted(places))}"
        )
    for name, place in places.items():
        x = np.asarray(found[name])
        if x.shape != place.shape or not np.can_cast(x.dtype, place.dtype, "same_kind"):
            raise ValueError(
                f"{name!r} is {x.dtype}{x.shape}, declared is {place.dtype}{place.shape}"
            )
        place[...] = x
