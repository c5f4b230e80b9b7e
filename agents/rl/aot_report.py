"""The words in which `loomax aot` prints what it found."""

import math

import jax
from jax.sharding import Mesh
from jaxtyping import PyTree

from loomax.agents.rl.iteration import TrainState
from loomax.runtime.aot import GIB, CompileReport
from loomax.runtime.flops import PEAK_FLOPS

MIB = 2**20
LARGEST = 10


def chip_bytes(leaf: jax.ShapeDtypeStruct) -> int:
    """Bytes of an abstract array on one device."""
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def describe(params: PyTree) -> str:
    """Number and types of parameters."""
    leaves = jax.tree.leaves(params)
    count = sum(leaf.size for leaf in leaves)
    kinds = "/".join(sorted({str(leaf.dtype) for leaf in leaves})) or "none"
    return f"{count:,} ({kinds})"


def parameter_rows(state: TrainState) -> list[str]:
    """The largest parameters: where each lies and what one chip holds of it."""
    named = {"trained": state.trained, "frozen": state.frozen}
    leaves = jax.tree_util.tree_flatten_with_path(named)[0]
    leaves.sort(key=lambda entry: -entry[1].size * entry[1].dtype.itemsize)
    rows = [f"{'parameter':<46}{'shape':<24}{'type':<10}{'MiB a chip':>10}  sharding"]
    for path, leaf in leaves[:LARGEST]:
        name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        shape = " x ".join(map(str, leaf.shape))
        where = ", ".join(map(str, leaf.sharding.spec)) or "whole"
        size = f"{chip_bytes(leaf) / MIB:.1f}"
        rows.append(f"{name:<46}{shape:<24}{leaf.dtype!s:<10}{size:>10}  {where}")
    return rows


def print_parameters(name: str, topology: str, mesh: Mesh, state: TrainState) -> None:
    """The mesh, and what of the train state every chip holds."""
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    print(f"{name} on {topology}: {mesh.size} devices ({axes})")
    print(f"trained  {describe(state.trained)}")
    print(f"frozen   {describe(state.frozen)}\n")
    print("\n".join(parameter_rows(state)), end="\n\n", flush=True)


def print_verdict(
    verdict: CompileReport | str, flops: float, topology: str, hbm_bytes: int
) -> None:
    """A program's memory, arithmetic and time, or why it does not fit."""
    if isinstance(verdict, str):
        print(f"  DOES NOT FIT {hbm_bytes / GIB:.0f} GiB: {verdict}\n", flush=True)
        return
    print("\n".join(f"  {line}" for line in verdict.lines(hbm_bytes)))
    least = 1e3 * flops / PEAK_FLOPS[topology.partition(":")[0]]
    print(
        f"  {'matrices':<12}{flops / 1e12:10.3f} TFLOP per device with all loops multiplied out: "
        f"at least {least:.4g} ms at the chip's bfloat16 peak\n",
        flush=True,
    )
