"""Are plans right, and do they run as fast as predicted?  loomax bench workflow

    planner    against all plans: planner/mismatches (of n random cases; 0 is right), and
               planner-5x4096/seconds to plan five stages on 4,096 devices
    workloads  stages of matrix products, profiled here, planned, and run by the plan and by the
               best plan of each family: WORKLOAD/iteration_s against time-shared, disaggregated,
               hybrid-2, and the best of all that ran; simulator/error is the median of
               |predicted / executed - 1| over all these plans. A family of which no plan fits has
               no row: three stages need three devices to be disaggregated

    mjx-fused  the main job's iteration in one fused plan, against stages that exchange their
               results through host memory
    scaling    the main training step on 16, 64 and 256 chips: memory, arithmetic and collective
               bytes of a chip, by the TPU compiler (needs libtpu)

`--only planner` runs one part. Devices: those of this process (`XLA_FLAGS` may force more host
devices than there are cores; they then share the cores, and a profile holds for no mix of stages).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import _workflow_mjx as mjx
from benchmarks import _workflow_plans as plans
from benchmarks import _workflow_run as run
from benchmarks import _workflow_scaling as scaling
from benchmarks._rows import Row, finish

PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "planner": plans.rows,
    "workloads": run.rows,
    "mjx-fused": mjx.rows,
    "scaling": scaling.rows,
}


def main(quick: bool, json_path: Path | None, only: Sequence[str] = ()) -> None:
    """Runs the parts, all of them by default; prints and writes the rows."""
    # The compiler is not quick.
    names = only or [name for name in PARTS if not (quick and name == "scaling")]
    finish([row for name in names for row in PARTS[name](quick)], json_path)
