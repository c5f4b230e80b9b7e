"""Are plans right, and do they run as fast as predicted?  loomax bench workflow

    planner    against all plans: planner/mismatches (of n random cases; 0 is right), and
               planner-5x4096/seconds to plan five stages on 4,096 devices
    workloads  stages of matrix products, profiled here, planned, and run by the plan and by the
               best plan of each family: WORKLOAD/iteration_s against time-shared, disaggregated,
               hybrid-2, and the best of all that ran; simulator/error is the median of
               |predicted / executed - 1| over all these plans. A family of which no plan fits has
               no row: three stages need three devices to be disaggregated

`--only planner` runs one part. Devices: those of this process (`XLA_FLAGS` may force more host
devices than there are cores; they then share the cores, and a profile holds for no mix of stages).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import _workflow_plans as plans
from benchmarks import _workflow_run as run
from benchmarks._rows import Row, finish

PARTS: dict[str, Callable[[bool], list[Row]]] = {"planner": plans.rows, "workloads": run.rows}


def main(quick: bool, json_path: Path | None, only: Sequence[str] = ()) -> None:
    """Runs the parts, all of them by default; prints and writes the rows."""
    finish([row for name in only or PARTS for row in PARTS[name](quick)], json_path)
