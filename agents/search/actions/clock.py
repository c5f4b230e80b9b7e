"""Virtual time: an event loop whose clock jumps to the next timer when there is nothing to do.

Everything in this folder takes its time from the running loop (`loop.time`, `asyncio.sleep`), so
the loop is the clock: under this one an hour of timeouts takes milliseconds and is the same in
every run. Threads do not know virtual time; a tool under it must be a coroutine.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Selector(selectors.SelectSelector):
    """Waits for no time at all, and tells how long the loop would have waited."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("every task waits and no timer is set: nothing would ever happen")
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time, which starts at 0 s."""

    def __init__(self):
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual.now


def run_virtual(main: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine to its end in virtual time.

    Raises:
        RuntimeError: every task waits for another one.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
