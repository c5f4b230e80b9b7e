"""CPU time of compiled blocks and networks, measured in turns on a quiet machine."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from loomax.nas.oracle.config import CpuConfig
from loomax.nas.oracle.load import check_quiet
from loomax.nas.oracle.program import Program, program_of
from loomax.nas.oracle.reading import Chain, Reading
from loomax.nas.oracle.turns import Run, take_turns


def measure_cpu(
    chains: Sequence[Chain], batch: int, dtype: str, config: CpuConfig
) -> Iterator[Reading]:
    """CPU seconds, of all threads, of one forward pass of each chain.

    Raises:
        ValueError: others keep the machine busy (what was given before stays valid), or a block
            has no program.
    """
    for start in range(0, len(chains), config.group):
        group = chains[start : start + config.group]
        runs = [repeated(program_of(chain, batch, dtype)) for chain in group]
        check_quiet(config.max_load)
        yield from take_turns(runs, config)


def repeated(program: Program) -> Run:
    """The program in a loop inside one call, so that calling it costs nothing.

    Two inputs alternate: with one, the compiler could compute the output once.
    """
    shape = jax.eval_shape(program.forward, program.state, program.images)

    def loop(times, state, inputs):
        def body(index, _):
            return program.forward(state, inputs[index % 2])

        return jax.lax.fori_loop(0, times, body, jnp.zeros(shape.shape, shape.dtype))

    inputs = jax.ShapeDtypeStruct((2, *program.images.shape), program.images.dtype)
    times = jax.ShapeDtypeStruct((), jnp.int32)
    compiled = jax.jit(loop).lower(times, program.state, inputs).compile()
    state, images = _filled((program.state, inputs))

    def run(count: int) -> None:
        compiled(jnp.int32(count), state, images).block_until_ready()

    return run


def _filled(shapes: Any) -> Any:
    """Arrays of those shapes, of a number that stays clear of zeros, NaN and tiny numbers."""
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.02, leaf.dtype), shapes)
