"""Rematerialisation policies as words, for configurations and for the search in `fit`.

none                 keep every value that the backward pass asks for
full                 recompute everything from the block's arguments
dots                 keep products of matrices without batch axes (linear layers)
keep:N               keep the N values that save most operations a byte (schedule/residuals.py)
names:a,b            keep the values with these `checkpoint_name`s
offload:a,b          move those to the host's memory and back; TPU and GPU only
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from loomax.memory.schedule.held import array_bytes
from loomax.memory.schedule.remat import remat
from loomax.memory.schedule.residuals import PREFIX, Residual, named, ranked
from loomax.memory.schedule.words import check_policy, names_of
from loomax.runtime.compile import target_platform
from loomax.runtime.config import unknown


def remat_as(
    spec: str, block: Callable[..., Any], known: Sequence[str] | None = None
) -> Callable[..., Any]:
    """`block` under a policy; see `schedule.remat.remat` for what a block may be.

    Args:
        known: names of a whole family of blocks: one that this block lacks is then no mistake.

    Raises:
        ValueError: `spec` is no policy; when called: the block has no value with such a name, or
            the backend cannot offload.
    """
    check_policy(spec, known)
    word, _, value = spec.partition(":")
    if word == "none":
        return block
    if word == "full":
        return remat(block)
    if word == "dots":
        return remat(block, jax.checkpoint_policies.dots_with_no_batch_dims_saveable)
    if word == "keep":
        return _flagged(block, lambda bound: _keep(bound, int(value)))
    if known is not None:
        return lambda *args, **kwargs: remat(block, _policy(word, names_of(value)))(*args, **kwargs)
    return _flagged(block, lambda bound: _by_name(word, bound, names_of(value)))


def _flagged(
    block: Callable[..., Any], under: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[..., Any]:
    """`block` under a policy that traces it; Python flags by keyword stay static, as in `remat`."""

    @functools.cache
    def made(flags: tuple[tuple[str, Any, type], ...]) -> Callable[..., Any]:
        return under(functools.partial(block, **{name: value for name, value, _ in flags}))

    def run(*args: Any, **kwargs: Any) -> Any:
        flags = {name: value for name, value in kwargs.items() if isinstance(value, (bool, int))}
        # 1 and True are equal, and not the same.
        key = tuple((name, value, type(value)) for name, value in sorted(flags.items()))
        rest = {name: value for name, value in kwargs.items() if name not in flags}
        return made(key)(*args, **rest) if flags else plain(*args, **rest)

    plain = under(block)
    return run


def _keep(block: Callable[..., Any], count: int) -> Callable[..., Any]:
    # Ranking takes a trace of its own; layers that look alike share it.
    known: dict[Any, list[Residual]] = {}

    def kept(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs))
        shape = (tree, *(jax.typeof(leaf) for leaf in leaves))
        if shape not in known:
            known[shape] = ranked(block, args, kwargs, count)
        chosen = [residual.index for residual in known[shape]]
        policy = jax.checkpoint_policies.save_only_these_names(*(f"{PREFIX}{i}" for i in chosen))
        return remat(named(block, chosen), policy)(*args, **kwargs)

    return kept


def _by_name(word: str, block: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    def kept(*args: Any, **kwargs: Any) -> Any:
        there = value_names(block, *args, **kwargs)
        for name in names:
            if name not in there:
                raise ValueError(f"remat is '{word}:{','.join(names)}': {_missing(name, there)}")
        return remat(block, _policy(word, names))(*args, **kwargs)

    return kept


def _missing(name: str, there: dict[str, int]) -> str:
    if not there:
        return f"the block names no value {name!r}, nor any other: use keep:N"
    return unknown("value of the block", name, there)


def _policy(word: str, names: tuple[str, ...]) -> Any:
    policies = jax.checkpoint_policies
    if word == "names":
        return policies.save_only_these_names(*names)
    if target_platform() == "cpu":
        raise ValueError("offload is for TPU and GPU, a CPU has no other memory: use names:...")
    return policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=list(names),
        offload_src="device",
        offload_dst="pinned_host",
    )


def value_names(block: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, int]:
    """`checkpoint_name`s of a block's values and the bytes under each."""
    leaves, tree = jax.tree.flatten((args, kwargs))

    def flat(*values: Any) -> Any:
        args, kwargs = tree.unflatten(values)
        return block(*args, **kwargs)

    found: dict[str, int] = {}
    for equation in _equations(jax.make_jaxpr(flat)(*leaves).jaxpr):
        if equation.primitive.name == "name":
            name = equation.params["name"]
            found[name] = found.get(name, 0) + array_bytes(equation.outvars[0].aval)
    return found


def _equations(jaxpr: Jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: isinstance(v, (Jaxpr, ClosedJaxpr))
        ):
            if isinstance(value, (Jaxpr, ClosedJaxpr)):
                yield from _equations(value.jaxpr if isinstance(value, ClosedJaxpr) else value)
