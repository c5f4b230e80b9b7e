"""What the TPU compiler says that blocks and networks take, on chips that need not be here.

The seconds are the compiler's own roofline over the program that it made: an estimate, not a
measurement. Chains have no loops, whose bodies it would count once; the whole seconds that it
books for prefetches are taken out by `loomax.runtime.aot.report`.
"""

from collections.abc import Iterator, Sequence

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from loomax.nas.oracle.program import program_of
from loomax.nas.oracle.reading import Chain, Reading
from loomax.runtime.aot import estimate_options, report, topology_mesh, uncached
from loomax.runtime.target import one_chip

_LOOPS = ("scan", "while", "cond")


def estimate_tpu(
    chains: Sequence[Chain], batch: int, dtype: str, generation: str
) -> Iterator[Reading]:
    """Seconds of one forward pass of each chain on one chip.

    Args:
        generation: "v5e", "v6e", "v5p" or "v4".

    Raises:
        ValueError: libtpu is missing, a block has no program, or a program has a loop.
    """
    mesh = topology_mesh(f"{generation}:{one_chip(generation)}")
    for chain in chains:
        # The compiler may say 0 for a program that only moves data.
        yield Reading(max(_seconds(chain, batch, dtype, mesh, generation), 1e-9))


def _seconds(chain: Chain, batch: int, dtype: str, mesh: Mesh, generation: str) -> float:
    program = program_of(chain, batch, dtype)
    place = NamedSharding(mesh, PartitionSpec())
    state, images = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        (program.state, program.images),
    )
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh), uncached():
        traced = jax.jit(program.forward, out_shardings=place).trace(state, images)
        refuse_loops(traced.jaxpr)
        compiled = traced.lower().compile(compiler_options=estimate_options(generation))
    return report(compiled).optimal_seconds


def refuse_loops(program: Jaxpr | ClosedJaxpr) -> None:
    """Checks that a program can be priced by the compiler's estimate.

    Raises:
        ValueError: it has a loop, whose body is counted once, or a branch, which is not priced.
    """
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in _LOOPS:
            raise ValueError(
                f"the program has a {name}: the TPU compiler's estimate does not multiply loops or"
                " price branches; unroll it"
            )
        for inner in equation.params.values():
            if isinstance(inner, Jaxpr | ClosedJaxpr):
                refuse_loops(inner)
