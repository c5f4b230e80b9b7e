"""The compiler's word on one form of a program: nothing is predicted."""

import contextlib
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jaxlib
from jax.sharding import NamedSharding, PartitionSpec

from loomax.memory.forms.levers import Lever
from loomax.runtime.aot import OUT_OF_MEMORY, report, uncached
from loomax.runtime.flops import matmul_flops
from loomax.runtime.kept import recall, remember
from loomax.runtime.mesh import on_mesh
from loomax.runtime.target import Target

# Of all of it, or of temporaries only where these alone are too much.
_SIZE = re.compile(
    r"(?:Used ([0-9.]+)([KMGT]) of [0-9.]+[KMGT] hbm|\(([0-9.]+)([KMGT])\) exceeds available HBM)",
    re.IGNORECASE,
)
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True)
class Program:
    """A step and what it is called with.

    Args:
        run: a pure function, or one that has been jitted already.
        args: arrays or abstract ones; those without a sharding are whole on every device.
        donate: which arguments the step may overwrite, where `run` is not jitted.
        key: the step is called with `key`, too.
    """

    run: Callable[..., Any]
    args: tuple[Any, ...]
    donate: tuple[int, ...] = ()
    key: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the compiler said. Bytes and operations are per device.

    Args:
        peak_bytes: with arguments and outputs; 0 if it did not compile and did not say.
        flops: of products, as traced, loops multiplied out.
        compiler_flops: the compiler's own count of everything; it counts a loop's body once, and
            on GPU it counts nothing (0).
        program: hash of the lowered program, its options and the compiler's version.
        error: the compiler's first line where it ran out of memory.
    """

    peak_bytes: int
    temp_bytes: int
    argument_bytes: int
    output_bytes: int
    alias_bytes: int
    flops: float
    compiler_flops: float
    program: str
    seconds: float
    error: str = ""

    def fits(self, budget: int) -> bool:
        """Whether it compiles and its peak is within `budget` bytes."""
        return not self.error and self.peak_bytes <= budget


def judge(program: Program, target: Target, lever: Lever, cache: Path | None = None) -> Verdict:
    """Compiles a program for a target, or reads what was said of the same program before.

    Args:
        cache: folder of verdicts.

    Raises:
        jax.errors.JaxRuntimeError: the compiler fails for another reason than memory.
    """
    lowered, flops = lower(program, target)
    name = program_name(lowered, target, lever)
    path = None if cache is None else cache / f"{name}.json"
    known = recall(path, Verdict)
    if known is None:
        known = _compile(lowered, lever, flops / target.mesh.size, name, target.platform)
        remember(path, known)
    return known


def abstract_args(program: Program, target: Target) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the program is called with, abstract and placed on the target: arguments, keywords."""
    everywhere = NamedSharding(target.mesh, PartitionSpec())

    def abstract(x: Any) -> jax.ShapeDtypeStruct:
        if not isinstance(x, jax.ShapeDtypeStruct):
            x = jax.typeof(x)
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding or everywhere)

    args = jax.tree.map(abstract, program.args)
    key = {"key": abstract(jax.eval_shape(lambda: jax.random.key(0)))} if program.key else {}
    return args, key


def trace(program: Program, target: Target) -> jax.stages.Traced:
    """The program traced for the target."""
    run = program.run
    if not hasattr(run, "trace"):
        run = jax.jit(run, donate_argnums=program.donate)
    with on_mesh(target.mesh):
        args, keywords = abstract_args(program, target)
        return run.trace(*args, **keywords)


def lower(program: Program, target: Target) -> tuple[jax.stages.Lowered, float]:
    """The program as the target's compiler gets it, and its products over all devices."""
    traced = trace(program, target)
    with on_mesh(target.mesh):
        return traced.lower(), matmul_flops(traced.jaxpr)


def _compile(
    lowered: jax.stages.Lowered, lever: Lever, flops: float, name: str, platform: str
) -> Verdict:
    start = time.monotonic()
    # Only a real device can load what was compiled for one.
    cache = contextlib.nullcontext() if platform == "cpu" else uncached()
    try:
        with cache:
            compiled = lowered.compile(compiler_options=dict(lever.options) or None)
    except jax.errors.JaxRuntimeError as error:
        if OUT_OF_MEMORY not in str(error) and "hbm" not in str(error).lower():
            raise
        first = str(error).partition("\n")[0]
        size = wanted_bytes(str(error))
        return Verdict(size, 0, 0, 0, 0, flops, 0.0, name, time.monotonic() - start, first)
    said = report(compiled)
    # The field is wrong on CPU, where the sum is exact; elsewhere the sum is an upper bound.
    peak = getattr(compiled.memory_analysis(), "peak_memory_in_bytes", 0)
    return Verdict(
        peak_bytes=said.peak_bytes if platform == "cpu" or not peak else peak,
        temp_bytes=said.temp_bytes,
        argument_bytes=said.argument_bytes,
        output_bytes=said.output_bytes,
        alias_bytes=said.alias_bytes,
        flops=flops,
        compiler_flops=said.flops,
        program=name,
        seconds=time.monotonic() - start,
    )


def wanted_bytes(message: str) -> int:
    """What the TPU compiler says that it would have needed; 0 where it does not say."""
    found = _SIZE.search(message)
    if found is None:
        return 0
    number, unit = (part for part in found.groups() if part is not None)
    return int(float(number) * 1024 ** _POWERS[unit.upper()])


def program_name(lowered: jax.stages.Lowered, target: Target, lever: Lever) -> str:
    """A hash of a lowered program, of what compiles it and for what."""
    versions = (jax.__version__, jaxlib.__version__, target.compiler)
    text = repr((lowered.as_text(), target.platform, target.kind, lever.options, versions))
    return hashlib.sha256(text.encode()).hexdigest()[:24]
