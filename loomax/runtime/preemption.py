"""A notice to end (SIGTERM, or Ctrl-C): finish the step, save, stop."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import jax
from jax.experimental import multihost_utils

from loomax.runtime.distributed import say

# As a shell has them: supervisors take the first for a stop from outside.
EXIT_CODE = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT


class Notice:
    """Whether the run is to stop. Several processes agree on the step after which they do."""

    def __init__(self):
        self.given: int | None = None

    def reached(self, step: int) -> bool:
        """Whether to save and stop after `step`. Every process asks after every step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.given is not None

    def stop(self, step: int, what: str) -> NoReturn:
        """Ends the program after `step` was saved.

        Raises:
            SystemExit: with code 143 after SIGTERM, 130 after Ctrl-C.
        """
        how, code = (
            ("Ctrl-C", INTERRUPTED) if self.given == signal.SIGINT else ("SIGTERM", EXIT_CODE)
        )
        say(f"stopped by {how} after {what} {step}, which is saved: --resume goes on from it")
        sys.stdout.flush()
        raise SystemExit(code)

    def _take(self, number: int, frame: FrameType | None) -> None:
        # The step may take minutes, and a second Ctrl-C does not wait for it.
        if number == signal.SIGINT and self.given is not None:
            raise KeyboardInterrupt
        self.given = number


@contextmanager
def preemption() -> Iterator[Notice]:
    """Takes SIGTERM and the first Ctrl-C as a notice for as long as the block runs.

    With several processes JAX's own service takes SIGTERM, and tells the others. Outside of the
    main thread, where Python has no signals, nothing is taken.
    """
    notice = Notice()
    if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
        yield notice
        return
    before = {
        number: signal.signal(number, notice._take) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield notice
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
