"""Schedule fences (csrc/fence.cc, through XLA FFI) and their twin in JAX, `barrier`.

Both return values unchanged that depend on all of `after`, so that what is computed from them
has to wait. XLA:CPU removes a barrier before it decides on common subexpressions and order; it
never looks into a fence.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning

from loomax.jaxlib_ext.library import native

TARGET = "loomax_fence"


@functools.cache
def available() -> bool:
    """Whether the native fence is there; the first call registers it with XLA:CPU."""
    library = native()
    if library is None or not hasattr(library, TARGET):
        return False
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(getattr(library, TARGET)), "cpu")
    return True


def fence(values: Any, after: Any) -> Any:
    """`values`, for use only once `after` has been computed; XLA:CPU only.

    Nothing is copied where XLA can give the memory of `values` away, which it cannot for what is
    still needed unfenced, such as parameters. Derivatives of any order pass unchanged; `vmap` adds
    no batch axis to a value that has none; under automatic sharding each device waits for its own
    part.

    Args:
        values: pytree of arrays, typed keys among them.
        after: pytree of arrays.

    Raises:
        RuntimeError: there is no native fence.
    """
    if not available():
        raise RuntimeError("no native fence: python -m loomax.jaxlib_ext.build makes it")
    return _apply(_fence, values, after)


def barrier(values: Any, after: Any) -> Any:
    """The same by `optimization_barrier`, on every backend."""
    return _apply(_barrier, values, after)


def _apply(rule: Callable[..., Any], values: Any, after: Any) -> Any:
    leaves, tree = jax.tree.flatten(values)
    raw = [_unwrap(leaf) for leaf in leaves]
    waits = [_unwrap(leaf) for leaf in jax.tree.leaves(after) if _has_data(leaf)]
    if not raw or not waits:
        return values
    done = rule(raw, waits)
    return tree.unflatten(_wrap(new, old) for new, old in zip(done, leaves, strict=True))


def _has_data(leaf: Any) -> bool:
    # Cotangents of integers are NumPy arrays of float0: XLA has no such type.
    return np.result_type(leaf) != jax.dtypes.float0 if isinstance(leaf, np.ndarray) else True


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(jax.numpy.result_type(leaf), jax.dtypes.prng_key)


def _unwrap(leaf: Any) -> jax.Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else jax.numpy.asarray(leaf)


def _wrap(data: jax.Array, like: Any) -> jax.Array:
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like)) if _is_key(like) else data


@jax.custom_jvp
def _fence(values: Sequence[jax.Array], after: Sequence[jax.Array]) -> list[jax.Array]:
    return _unbatched(values, after)


@_fence.defjvp
def _fence_jvp(primals, tangents):
    return _fence(*primals), tangents[0]


@jax.custom_jvp
def _barrier(values: Sequence[jax.Array], after: Sequence[jax.Array]) -> list[jax.Array]:
    return list(jax.lax.optimization_barrier((list(values), list(after)))[0])


@_barrier.defjvp
def _barrier_jvp(primals, tangents):
    return _barrier(*primals), tangents[0]


@custom_vmap
def _unbatched(values: Sequence[jax.Array], after: Sequence[jax.Array]) -> list[jax.Array]:
    return list(_partitioned(len(values))(*values, *after))


@_unbatched.def_vmap
def _unbatched_vmap(axis_size, in_batched, values, after):
    return _unbatched(values, after), in_batched[0]


@functools.cache
def _partitioned(count: int) -> custom_partitioning:
    """The call on `count` values and any operands to wait for, each sharded as it likes."""

    def call(*operands: jax.Array) -> tuple[jax.Array, ...]:
        kinds = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in operands[:count])
        aliases = {i: i for i in range(count)}
        return tuple(jax.ffi.ffi_call(TARGET, kinds, input_output_aliases=aliases)(*operands))

    def partition(mesh, operands, results):
        shardings = tuple(operand.sharding for operand in operands)
        return mesh, call, shardings[:count], shardings

    def infer(mesh, operands, shape):
        return tuple(operand.sharding for operand in operands[:count])

    def rule(mesh, operands, results):
        names = [" ".join(f"a{i}_{d}" for d in range(len(x.shape))) for i, x in enumerate(operands)]
        return f"{', '.join(names)} -> {', '.join(names[:count])}"

    whole = custom_partitioning(call)
    whole.def_partition(partition, infer_sharding_from_operands=infer, sharding_rule=rule)
    return whole
