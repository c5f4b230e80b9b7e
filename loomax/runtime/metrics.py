"""Metrics of a run: one JSON object a line, and the same in TensorBoard."""

import json
import math
import shutil
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

    Nothing is touched before the first line is written, so that a start that is refused leaves
    everything as it was.

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
        self._run_dir, self._enabled = Path(run_dir), enabled
        self._new = resume_step is None
        self._cuts = [] if resume_step is None else [(counted, resume_step)]
        if again:
            self._cuts.append((again, -1))
        self._file: TextIO | None = None

    def cut(self, prefix: str, step: int = 0) -> None:
        """Drops lines with metrics of `prefix` after `step`: that work begins again from there."""
        self._cuts.append(((prefix,), step))
        if self._file is not None:
            # What is there may be of this process.
            self._new = False
            self.close()

    def write(self, step: int, metrics: Mapping[str, SupportsFloat], prefix: str = "") -> None:
        """Adds one line. Values that are not finite become null, which JSON can hold."""
        if not self._enabled:
            return
        file = self._file or self._open()
        values = {prefix + name: float(value) for name, value in metrics.items()}
        row = {"step": int(step), "time": time.time()}
        row |= {name: x if math.isfinite(x) else None for name, x in values.items()}
        file.write(json.dumps(row) + "\n")
        file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, int(step))

    def _open(self) -> TextIO:
        """Drops lost lines; the curves are made again from what stays, since they cannot be cut."""
        rows = [] if self._new else read(self._run_dir)
        kept = [row for row in rows if not any(_lost(row, *cut) for cut in self._cuts)]
        self._cuts = []
        atomic_write(self._run_dir / FILE, "".join(json.dumps(row) + "\n" for row in kept))
        board = self._run_dir / "tensorboard"
        if board.exists():
            shutil.rmtree(board)
        self._board = tensorboardX.SummaryWriter(str(board))
        for row in kept:
            for name, value in row.items():
                if name not in ("step", "time") and value is not None:
                    self._board.add_scalar(name, value, row["step"], walltime=row.get("time"))
        self._file = open(self._run_dir / FILE, "a", encoding="utf-8")
        return self._file

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


def _lost(row: dict, prefixes: tuple[str, ...], step: int) -> bool:
    return row["step"] > step and any(name.startswith(prefixes) for name in row)


def read(run_dir: str | Path) -> list[dict]:
    """The rows of a run, oldest first; a last line that was cut short is left out."""
    path = Path(run_dir) / FILE
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            break
        rows.append(row)
    return rows


def check_finite(metrics: Mapping[str, float], where: str) -> None:
    """Raises FloatingPointError naming the metrics that are not finite, and where: "step 3"."""
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise FloatingPointError(f"{where}: {', '.join(broken)} not finite; see metrics")
