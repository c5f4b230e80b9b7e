"""A progress bar on a terminal, a line now and then everywhere else."""

import sys
import time
from types import TracebackType
from typing import SupportsFloat

import tqdm


class Progress:
    """Counts towards `total`, with the time left and the newest metrics.

    Use as a context manager and call `update(n, reward=0.3, ...)` inside. Writes to stderr: a
    tqdm bar on a terminal, otherwise one line per `every` seconds plus the first and the last.
    """

    def __init__(self, total: int, description: str, every: float = 10.0, enabled: bool = True):
        self._total, self._description, self._every = total, description, every
        self._enabled = enabled
        self._done, self._start, self._printed = 0, time.monotonic(), -float("inf")
        self._bar = None
        if enabled and sys.stderr.isatty():
            self._bar = tqdm.tqdm(total=total, desc=description, dynamic_ncols=True)

    def update(self, n: int = 1, **metrics: SupportsFloat) -> None:
        """Moves on by `n`; the metrics are shown beside the bar."""
        self._done += n
        text = "  ".join(f"{name} {float(value):.4g}" for name, value in metrics.items())
        if self._bar is not None:
            if text:
                self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(n)
            return
        now = time.monotonic()
        last = self._done >= self._total
        if self._enabled and (last or now - self._printed >= self._every):
            self._printed = now
            print(self._line(now - self._start, text), file=sys.stderr, flush=True)

    def _line(self, elapsed: float, text: str) -> str:
        left = elapsed / max(self._done, 1) * max(self._total - self._done, 0)
        times = f"{_clock(elapsed)} gone, {_clock(left)} left"
        return f"{self._description}: {self._done}/{self._total}  {times}  {text}".rstrip()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        if self._bar is not None:
            self._bar.close()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
