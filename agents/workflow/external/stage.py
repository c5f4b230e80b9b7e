"""A pool of simulators as stages of a workflow."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from jaxtyping import Array

from loomax.agents.workflow.external.config import PoolConfig
from loomax.agents.workflow.external.pool import Pool
from loomax.agents.workflow.external.simulator import ArraySpec
from loomax.agents.workflow.stage import Stage


def rows_of(pool: Pool | PoolConfig) -> Array:
    """The numbers of all rows: what a stateful stage takes first and gives back."""
    config = pool if isinstance(pool, PoolConfig) else pool.config
    return jnp.arange(config.batch, dtype=jnp.int32)


def external(name: str, pool: Pool | PoolConfig) -> Stage:
    """The step of a pool's simulators as a stage.

    With state it is `stage(rows, inputs) -> (rows, outputs)`. The state stays in the workers; the
    rows say whose it is, also in a microbatch, and that one call comes after another: start with
    `rows_of(pool)`, and give each call the rows that the last one gave. Without state it is
    `stage(inputs) -> outputs`. Inputs and outputs are dictionaries of arrays.

    The executor and a plain call reach the workers from the host, with NumPy arrays. In a program
    of `jax.jit` the stage becomes an (ordered) `io_callback`.

    Args:
        pool: by its settings, one that starts with the first call and ends with the stage.

    Raises:
        ValueError: an array that JAX has no type for; the first call says more.
    """
    pool = pool if isinstance(pool, Pool) else Pool(pool)
    return _stage(name, pool, "step")


def external_reset(name: str, pool: Pool) -> Stage:
    """The reset of a pool's simulators as a stage, `stage(rows, inputs) -> (rows, outputs)`.

    Raises:
        ValueError: the pool declares no resets, or an array that JAX has no type for.
    """
    if not pool.config.resets:
        raise ValueError(f"{name}: the pool declares no resets: give PoolConfig some")
    return _stage(name, pool, "reset")


def _stage(name: str, pool: Pool, kind: str) -> Stage:
    config = pool.config
    for spec in (*config.inputs.values(), *config.resets.values(), *config.outputs.values()):
        held = jax.dtypes.canonicalize_dtype(spec.dtype)
        if held != np.dtype(spec.dtype):
            raise ValueError(f"{name}: {spec.dtype} is {held} in JAX: declare {held}")
    call = pool.step if kind == "step" else pool.reset
    caller = f"stage {name!r}"

    def host(*args: Any) -> Any:
        arrays = {key: np.asarray(x) for key, x in args[-1].items()}
        rows = np.asarray(args[0]) if config.stateful else None
        return call(arrays, rows, caller)

    def run(*args: Any) -> Any:
        _check_arguments(name, config, args)
        leaves = jax.tree.leaves(args)
        if any(isinstance(x, jax.core.Tracer) for x in leaves):
            result = _structure(config.outputs, _rows(name, leaves))
            found = io_callback(host, result, *args, ordered=config.stateful)
        else:
            found = host(*args)
            if any(isinstance(x, jax.Array) for x in leaves):
                found = jax.tree.map(jnp.asarray, found)
        return (args[0], found) if config.stateful else found

    multiple = config.rows_each if config.stateful else 1
    return Stage(name, run, fusable=False, background=True, multiple=multiple)


def _check_arguments(name: str, config: PoolConfig, args: tuple) -> None:
    form = "stage(rows, inputs)" if config.stateful else "stage(inputs)"
    if len(args) != 1 + config.stateful or not isinstance(args[-1], Mapping):
        raise ValueError(f"stage {name!r}: call it as {form}, with a dictionary of arrays")


def _rows(name: str, leaves: list) -> int:
    """Of a batch, by its first array."""
    for x in leaves:
        if x.ndim:
            return x.shape[0]
    raise ValueError(f"stage {name!r}: no array has rows")


def _structure(specs: Mapping[str, ArraySpec], rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    return {key: jax.ShapeDtypeStruct((rows, *s.shape), s.dtype) for key, s in specs.items()}
