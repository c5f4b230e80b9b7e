"""A supernet's training step, and what samplers make of it.

- cost: CPU seconds of a step of the smallest, the median and the largest net of a space: ours (one
  program, `elastic_switch`) against the extracted network alone, masks, `lax.switch`, compiling
  each net, and an eager PyTorch model; temporary memory; compilations of 200 nets.
- search: evolution on the digits supernet against 200 random nets under the same latency.
- samplers: equal numbers of steps on the digits and shapes, by rule: accuracy of three nets on the
  test images, and how the supernet ranks nets that were also trained alone (Kendall's tau).
"""

import importlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks._rows import finish

PARTS = {
    "cost": "benchmarks._supernet_cost",
    "search": "benchmarks._supernet_search",
    "samplers": "benchmarks._supernet_samplers",
}
QUICK = ("cost",)


def main(quick: bool, json_path: Path | None, only: Sequence[str] = ()) -> None:
    """Runs the parts, all of them by default; prints and writes the rows."""
    names = only or (QUICK if quick else PARTS)
    finish(
        [row for name in names for row in importlib.import_module(PARTS[name]).rows(quick)],
        json_path,
    )
