"""Metrics of a run: one JSON object a line, and the same in TensorBoard."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import SupportsFloat, TextIO

import tensorboardX

from loomax.runtime.files import atomic_write

FILE = "metrics.jsonl"


class MetricsWriter:
    """Appends to `run_dir/metrics.jsonl` and `run_dir/tensorboard/`.

    Args:
        run_dir: the folder of the run.
        resume_step: the step that the run goes on from. Lines of later steps belong to work
            that was lost and are dropped, as is a last line that a crash cut short. None
            starts a new file.
        counted: prefixes of the metrics that `resume_step` counts; lines of others are kept.
        again: prefixes of the metrics that will be written once more; their lines are dropped.
        enabled: False on all processes but the first.
    """

    def __init__(
        self,
        run_dir: str | Path,
        resume_step: int | None = None,
        *,
        counted: tuple[str, ...] = ("",),
        again: tuple[str, ...] = (),
        enabled: bool = True,
    ):
        self._file: TextIO | None = None
        if not enabled:
            return
        run_dir = Path(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        path = run_dir / FILE
        kept = [] if resume_step is None else read(run_dir)
        lines = [
            json.dumps(row) + "\n"
            for row in kept
            if (row["step"] <= resume_step or not _holds(row, counted)) and not _holds(row, again)
        ]
        atomic_write(path, "".join(lines))
        self._file = open(path, "a", encoding="utf-8")
        purge = 0 if resume_step is None else resume_step + 1
        self._board = tensorboardX.SummaryWriter(str(run_dir / "tensorboard"), purge_step=purge)

    def write(self, step: int, metrics: Mapping[str, SupportsFloat], prefix: str = "") -> None:
        """Adds one line. Values that are not finite become null, which JSON can hold."""
        if self._file is None:
            return
        values = {prefix + name: float(value) for name, value in metrics.items()}
        row = {"step": int(step), "time": time.time()}
        row |= {name: x if math.isfinite(x) else None for name, x in values.items()}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, int(step))

    def close(self) -> None:
        """Flushes and closes both files."""
        if self._file is not None:
            self._file.close()
            self._board.close()
            self._file = None

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        self.close()


def _holds(row: dict, prefixes: tuple[str, ...]) -> bool:
    return any(name.startswith(prefixes) for name in row)


def read(run_dir: str | Path) -> list[dict]:
    """The rows of a run, oldest first; a last line that was cut short is left out."""
    path = Path(run_dir) / FILE
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def check_finite(metrics: Mapping[str, float], where: str) -> None:
    """Raises FloatingPointError naming the metrics that are not finite, and where: "step 3"."""
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise FloatingPointError(f"{where}: {', '.join(broken)} not finite; see metrics")
