"""How well does XLA pack a program's temporaries, and how well could they be packed?

Each program of `_memory_xla_programs` is compiled, and XLA's own heap and our plan of the same
buffers are compared with the lower bound: for this CPU, for a TPU v5e if libtpu is here
(loomax[tpu-aot]) and for an H100 if JAX's CUDA plugin is (loomax[gpu-aot]); nothing runs. XLA takes
no offsets from outside, so this says what a planner is worth on such problems, not what a program
saves.
"""

import importlib.util
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import jax

from benchmarks._memory_xla_programs import (
    Instance,
    cpu_instances,
    described_instances,
    one_device,
)
from benchmarks._rows import Row, compare, device_name
from loomax.memory.lifetimes.xla import compile_traced
from loomax.memory.lifetimes.xla_program import XlaProgram
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.pack import pack
from loomax.memory.planner.plan import check_plan
from loomax.runtime.aot import compile_without_cache, topology_mesh
from loomax.runtime.gpu_aot import gpu_mesh, plugin_installed

BENCH = "memory"
WORST = "xla-worst"
SECONDS = 1.0
TARGET = 1.001
QUICK = 3
# LLVM's optimisations come after the buffers are assigned, and take half of the time.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@dataclass(frozen=True)
class Packed:
    """What became of one program; both peaks are over the lower bound.

    Args:
        seconds: that our plan took.
        device, source: as in a row.
    """

    name: str
    buffers: int
    xla: float
    ours: float
    seconds: float
    device: str
    source: str


def packed(instance: Instance, program: XlaProgram, device: str, source: str) -> Packed:
    """Plans the buffers of a compiled program and checks XLA's offsets and ours."""
    heap = program.heap
    check_plan(heap, program.offsets, program.heap_peak)
    plan = pack(heap, PackConfig(seconds=SECONDS, gap=TARGET - 1))
    check_plan(heap, plan.offsets, plan.peak)
    # A program without temporaries is packed perfectly.
    bound = max(plan.lower_bound, 1)
    xla, ours = (max(peak, 1) / bound for peak in (program.heap_peak, plan.peak))
    return Packed(instance.name, len(heap.records), xla, ours, plan.seconds, device, source)


def cases(quick: bool) -> Iterator[tuple[Instance, jax.sharding.Mesh, str, str]]:
    """Programs, each with the device it is compiled for, its name, and the source of numbers."""
    here = one_device(jax.devices("cpu"))
    for number, instance in enumerate(cpu_instances()):
        if not quick or number < QUICK:
            options = {**instance.options, **FAST}
            yield replace(instance, options=options), here, device_name(), "measured"
    if quick:
        return
    described = {}
    if importlib.util.find_spec("libtpu") is not None:
        described["v5e"] = (topology_mesh("v5e:2x2"), "tpu-compiler")
    if plugin_installed():
        described["h100"] = (gpu_mesh("h100"), "gpu-compiler")
    if described:
        compile_without_cache()
    for kind, (mesh, source) in described.items():
        mesh = one_device(mesh.devices.flat)
        for instance in described_instances():
            name = f"{kind}-{instance.name}"
            yield replace(instance, name=name), mesh, f"1 x {kind}", source


def measured(quick: bool) -> list[Packed]:
    """All programs, compiled and packed."""
    found = []
    for instance, mesh, device, source in cases(quick):
        start = time.perf_counter()
        _, program = compile_traced(instance.lower(mesh), instance.options)
        result = packed(instance, program, device, source)
        took = time.perf_counter() - start
        print(
            f"{result.name}: {result.buffers} buffers, XLA {result.xla:.4f}, ours "
            f"{result.ours:.4f} of the lower bound in {result.seconds:.2f} s ({took:.0f} s in all)",
            flush=True,
        )
        found.append(result)
    return found


def row(case: str, ours: float, theirs: float, device: str, source: str) -> Row:
    """Our peak against XLA's, both over the lower bound."""
    samples, metric = {case: [ours], "xla": [theirs]}, "peak_over_lower_bound"
    return compare(
        BENCH, metric, "lower bound", samples, case, ["xla"], "lower", device=device, source=source
    )[0]


def rows_of(found: list[Packed]) -> list[Row]:
    """A row for each program, and the worst of our peaks and times."""
    made = [row(f"xla-{p.name}", p.ours, p.xla, p.device, p.source) for p in found]
    here, version = device_name(), jax.__version__
    # On TPU most temporaries of small programs live in VMEM; the rest of the heap is not listed.
    ours, listed = max(p.ours for p in found), [p for p in found if p.source != "tpu-compiler"]
    theirs = max(p.xla for p in listed or found)
    spent = max(p.seconds for p in found)
    last = Row(BENCH, WORST, "seconds", spent, "s", None, None, 1, here, version, "measured")
    return [*made, row(WORST, ours, theirs, here, "measured"), last]


def verdict(found: list[Packed]) -> str:
    """Whether every plan is good and soon enough, in words."""
    above = [p for p in found if p.ours > TARGET]
    late = [p for p in found if p.seconds >= SECONDS]
    hard = sum(p.xla > 1.01 for p in found)
    said = f"{len(found)} programs, {hard} of which XLA packs more than 1 % above the bound; "
    if not above and not late:
        return said + f"all plans within {TARGET} of it in less than {SECONDS:g} s"
    missed = [f"{p.name} at {p.ours:.4f}" for p in above]
    missed += [f"{p.name} after {p.seconds:.2f} s" for p in late]
    return said + f"{TARGET} in {SECONDS:g} s is missed by: {', '.join(missed)}"


def rows(quick: bool) -> list[Row]:
    """Compiles and packs all programs, or three."""
    found = measured(quick)
    print(verdict(found))
    return rows_of(found)
