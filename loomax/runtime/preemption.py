"""A notice (SIGTERM) that the machine is going to be taken away: finish the step, save, stop."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import jax
from jax.experimental import multihost_utils

from loomax.runtime.distributed import say

# 128 + SIGTERM, as a shell has it: supervisors take it for a stop from outside.
EXIT_CODE = 128 + signal.SIGTERM


class Notice:
    """Whether the run is to stop. Several processes agree on the step after which they do."""

    def __init__(self):
        self.given = False

    def reached(self, step: int) -> bool:
        """Whether to save and stop after `step`. Every process asks after every step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.given

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.given = True


@contextmanager
def preemption() -> Iterator[Notice]:
    """Takes SIGTERM as a notice for as long as the block runs.

    With several processes JAX's own service takes it, and tells the others. Outside of the main
    thread, where Python has no signals, nothing is taken.
    """
    notice = Notice()
    if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
        yield notice
        return
    before = signal.signal(signal.SIGTERM, notice._take)
    try:
        yield notice
    finally:
        signal.signal(signal.SIGTERM, before)


def stop(step: int, what: str) -> None:
    """Ends the program after `step` was saved.

    Raises:
        SystemExit: with code 143.
    """
    say(f"stopped by SIGTERM after {what} {step}, which is saved: --resume goes on from it")
    sys.stdout.flush()
    raise SystemExit(EXIT_CODE)
