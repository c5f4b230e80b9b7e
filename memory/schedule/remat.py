"""Rematerialisation that holds on every backend.

XLA:CPU undoes `jax.checkpoint` where layers are not in a loop: it removes the barriers that guard
the recomputation, merges it with the forward pass and keeps everything. Here the backward pass of a
block gets its residuals through a fence that also takes the incoming cotangent, so that no
recomputation can be merged, or start before its turn. The schedulers for TPU and GPU do honour
`jax.checkpoint`, which is used there.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from loomax.jaxlib_ext import fence
from loomax.memory.schedule.held import array_bytes, choose, recomputed
from loomax.runtime.compile import target_platform

Policy = Callable[..., Any]


def remat(
    block: Callable[..., Any],
    policy: Any = None,
    *,
    static_argnums: int | Sequence[int] = (),
    native: bool = True,
) -> Callable[..., Any]:
    """`block`, whose intermediate values are recomputed in the backward pass.

    Works under jit, vmap, scan, shard_map and automatic sharding, nested, and for reverse mode of
    any order; on CPU not under forward mode, which JAX refuses (TypeError) for any function with a
    backward pass of its own. Arrays that `block` closes over are differentiated, too.

    Args:
        block: pure function of pytrees of arrays, integers and keys among them.
        policy: what to keep nevertheless: one of `jax.checkpoint_policies`.
        static_argnums: positional arguments that `block` gets as they are, as in `jax.checkpoint`:
            hashable, and no arrays. Python's bool and int given by keyword (`train=True`) are
            static without being named, so that a block may branch on them.
        native: False takes `optimization_barrier` instead of the native fence, which `jax.export`
            refuses; XLA:CPU may then keep what should be recomputed.

    Raises:
        ValueError: `policy` is no function; when called: an argument is no array, a static one is
            missing or not hashable, or `block` has side effects that must not be repeated.
    """
    static = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    if policy is not None and not callable(policy):
        raise ValueError(f"policy is {policy!r}: give one of jax.checkpoint_policies, or None")

    @functools.wraps(block)
    def rematerialised(*args: Any, **kwargs: Any) -> Any:
        name = getattr(block, "__name__", repr(block))
        bound, args, kwargs = _bind_static(block, name, static, args, kwargs)
        _check_arrays(name, (args, kwargs))
        try:
            if target_platform() != "cpu":
                return jax.checkpoint(bound, policy=policy)(*args, **kwargs)
            return _fenced(bound, policy, args, kwargs, native)
        except NotImplementedError as error:
            if "ffect" not in str(error):
                raise
            raise ValueError(
                f"remat of {name}: {error}. Its backward pass would repeat the side effect: "
                "take it out of the block"
            ) from error

    return rematerialised


def _bind_static(
    block: Callable[..., Any], name: str, static: Sequence[int], args: Any, kwargs: Any
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """`block` with its static arguments filled in, and the other arguments."""
    flags = {key: value for key, value in kwargs.items() if isinstance(value, (bool, int))}
    for index in static:
        if not -len(args) <= index < len(args):
            raise ValueError(
                f"remat of {name}: static_argnums has {index}, and there are {len(args)} "
                "positional arguments"
            )
    held = {index % len(args): args[index % len(args)] for index in static}
    for index, value in held.items():
        try:
            hash(value)
        except TypeError:
            raise ValueError(
                f"remat of {name}: argument {index} is static and of type {type(value).__name__}, "
                "which is not hashable"
            ) from None
    if not held and not flags:
        return block, args, kwargs

    def bound(*others: Any, **more: Any) -> Any:
        rest = iter(others)
        every = [held[i] if i in held else next(rest) for i in range(len(args))]
        return block(*every, **more, **flags)

    left = tuple(value for index, value in enumerate(args) if index not in held)
    return bound, left, {key: value for key, value in kwargs.items() if key not in flags}


def _fenced(
    block: Callable[..., Any], policy: Policy | None, args: Any, kwargs: Any, native: bool
) -> Any:
    leaves, tree = jax.tree.flatten((args, kwargs))

    def flat(*values: Any) -> Any:
        args, kwargs = tree.unflatten(values)
        return block(*args, **kwargs)

    jaxpr, shape = jax.make_jaxpr(flat, return_shape=True)(*leaves)
    # A function with its own backward pass must be told what it closes over.
    closed = [isinstance(value, jax.core.Tracer) for value in jaxpr.consts]
    outer = [value for value, is_closed in zip(jaxpr.consts, closed, strict=True) if is_closed]

    def run(*values: Any) -> list[Any]:
        given = iter(values[: len(outer)])
        pairs = zip(jaxpr.consts, closed, strict=True)
        consts = [next(given) if is_closed else value for value, is_closed in pairs]
        return jaxpr_as_fun(ClosedJaxpr(jaxpr.jaxpr, consts))(*values[len(outer) :])

    results = _with_backward(run, policy, native)(*outer, *leaves)
    return jax.tree.unflatten(jax.tree.structure(shape), results)


def _with_backward(
    run: Callable[..., list[Any]], policy: Policy | None, native: bool
) -> Callable[..., Any]:
    """`run`, a function of arrays, with a backward pass that waits for its cotangents."""
    # What the policy keeps are the residuals of JAX's own; no barrier, that is the fence's work.
    kept = jax.checkpoint(run, policy=policy, prevent_cse=False)
    with_backward = jax.custom_vjp(run)
    with_backward.defvjp(
        lambda *values: jax.vjp(kept, *values), functools.partial(_backward, native)
    )
    return with_backward


def _backward(native: bool, pullback: Any, cotangents: Any) -> Any:
    residuals, tree = jax.tree.flatten(pullback)
    given, shape = jax.tree.flatten(cotangents)
    real = [i for i, value in enumerate(given) if value.dtype != jax.dtypes.float0]

    def pull(values: Any, *arrived: Any) -> Any:
        every = dict(enumerate(given)) | dict(zip(real, arrived, strict=True))
        return tree.unflatten(values)(shape.unflatten(every[i] for i in range(len(given))))

    arrived = [given[i] for i in real]
    work = recomputed(jax.make_jaxpr(pull)(residuals, *arrived), len(residuals))
    held = choose([array_bytes(value) for value in residuals], work)
    wait = _fence() if native else fence.barrier
    done = wait([residuals[i] for i in held], arrived)
    fenced = dict(enumerate(residuals)) | dict(zip(held, done, strict=True))
    return pull([fenced[i] for i in range(len(residuals))], *arrived)


def _fence() -> Callable[[Any, Any], Any]:
    if fence.available():
        return fence.fence
    _say_once(
        "remat: no native fence, and XLA:CPU may keep what should be recomputed: "
        "python -m loomax.jaxlib_ext.build (with a C++ compiler) makes it"
    )
    return fence.barrier


@functools.cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr)


def _check_arrays(name: str, values: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(values):
        try:
            jax.typeof(leaf)
        except TypeError as error:
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"remat of {name}: argument {where} is {leaf!r}, which is no array: "
                "bind it with functools.partial before remat"
            ) from error
