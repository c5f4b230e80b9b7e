"""Rows of results: how they are timed, compared, printed and written.

A row compares ours with a baseline in one metric; `ratio` above 1 always says that ours is
better. The cases of a benchmark take turns within one process, so that a slow minute of the machine
hits all of them, and the median of the turns is reported.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import jax

from loomax.runtime.aot import report
from loomax.runtime.files import atomic_write
from loomax.runtime.progress import Progress

Better = Literal["higher", "lower"]
MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One line of the result file; `baseline` names what `ratio` compares with.

    `source` is "measured", "tpu-compiler" or "gpu-compiler" (of a program that did not run), or
    "simulation".
    """

    bench: str
    case: str
    metric: str
    value: float
    unit: str
    baseline: str | None
    ratio: float | None
    n: int
    device: str
    jax: str
    source: str = "measured"


def device_name() -> str:
    """Kind and number of the devices that are used."""
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind}"


def take_turns(cases: Mapping[str, Callable[[], float]], n: int) -> dict[str, list[float]]:
    """Measures every case `n` times, one after the other in each round, after one warm-up round.

    Args:
        cases: functions that do the work once and return what is measured.

    Raises:
        ValueError: if n is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}: measure at least once")
    found: dict[str, list[float]] = {name: [] for name in cases}
    with Progress((n + 1) * len(cases), "measuring") as progress:
        for _ in range(n + 1):
            for name, run in cases.items():
                found[name].append(run())
                progress.update(1, **{name: found[name][-1]})
    return {name: values[1:] for name, values in found.items()}


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of a call until its results are there, and the results."""
    start = time.perf_counter()
    out = jax.block_until_ready(run())
    return time.perf_counter() - start, out


class Program:
    """A function that is compiled for the arguments of its first call, and keeps what it needs.

    Args:
        options: of `jax.jit`.
    """

    def __init__(self, function: Callable[..., Any], **options: Any):
        self._jitted = jax.jit(function, **options)
        self._compiled: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._compiled is None:
            self._compiled = self._jitted.lower(*args, **kwargs).compile()
        return self._compiled(*args, **kwargs)

    @property
    def bytes(self) -> int:
        """Most bytes held at once on one device, arguments included; 0 before the first call."""
        return 0 if self._compiled is None else report(self._compiled).peak_bytes


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays in a pytree."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def compare(
    bench: str,
    metric: str,
    unit: str,
    samples: Mapping[str, Sequence[float]],
    ours: str,
    baselines: Sequence[str],
    better: Better = "higher",
    *,
    device: str | None = None,
    source: str = "measured",
) -> list[Row]:
    """Rows of `ours` against each baseline, then the baselines' own values.

    Args:
        device: what the numbers hold for; by default the devices of this process.

    Raises:
        ValueError: if a median that a ratio divides by is not above 0.
    """
    middle = {name: statistics.median(values) for name, values in samples.items()}

    def row(case: str, baseline: str | None, ratio: float | None) -> Row:
        value, n, where = middle[case], len(samples[case]), device or device_name()
        version = jax.__version__
        return Row(bench, case, metric, value, unit, baseline, ratio, n, where, version, source)

    rows = []
    for name in baselines:
        top, bottom = (ours, name) if better == "higher" else (name, ours)
        if middle[bottom] <= 0:
            raise ValueError(f"{bench}/{bottom}/{metric} is {middle[bottom]}: it must be above 0")
        rows.append(row(ours, name, middle[top] / middle[bottom]))
    return rows + [row(name, None, None) for name in baselines]


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    head = ("case", "value", "unit", "against", "ratio", "n")
    lines = [head]
    for row in rows:
        case, ratio = f"{row.bench}/{row.case}/{row.metric}", row.ratio
        shown = "" if ratio is None else f"{ratio:.2f}"
        lines.append((case, f"{row.value:.4g}", row.unit, row.baseline or "", shown, str(row.n)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def finish(rows: Sequence[Row], json_path: Path | None) -> None:
    """Prints the table and writes JSON lines if a path is given."""
    print("\n" + table(rows))
    if json_path is not None:
        atomic_write(json_path, "".join(json.dumps(asdict(row)) + "\n" for row in rows))
