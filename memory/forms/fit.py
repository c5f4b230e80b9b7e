"""`fit`: the cheapest form of a training step that fits a budget of memory."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
from jaxtyping import PyTree

from loomax.memory.forms.batch import largest_batch
from loomax.memory.forms.donation import described, donatable
from loomax.memory.forms.form import Form
from loomax.memory.forms.judge import Program, lower
from loomax.memory.forms.plan import FitPlan
from loomax.memory.forms.search import DoesNotFitError, Search, Try
from loomax.memory.lifetimes.xla import compile_traced
from loomax.memory.report.text import bytes_text
from loomax.memory.schedule.policy import value_names
from loomax.runtime.compile import cache_folder
from loomax.runtime.sizes import parse_bytes
from loomax.runtime.target import Target, parse_target

MICROBATCHES = (2, 4, 8, 16, 32, 64)
RESIDENTS = 5


def fit(
    step: Callable[..., Any],
    args: Sequence[Any],
    budget: str | float,
    target: str | Target = "cpu",
    *,
    batch: int | Sequence[int] = (),
    donate: int | Sequence[int] | Literal["auto"] = "auto",
    largest: bool = False,
    most: int = 40,
    tell: Callable[[Try], None] | None = None,
) -> FitPlan:
    """The form of a step with the least arithmetic whose peak, by the compiler, is in the budget.

    A step that takes `form` (memory.forms.form.Form) is searched over what it recomputes, layers
    as list or loop, and microbatches. Of any step, donation and the compiler's levers are tried.
    Verdicts are kept on disk by the program's hash; Ctrl-C ends the search with what is known.

    Args:
        step: a pure function of arrays, or one that also takes `form` by keyword.
        args: what it is called with: arrays, or jax.ShapeDtypeStruct (with shardings, for a
            target of several devices).
        budget: bytes of one device, or text such as "15GiB".
        target: such as "cpu", "tpu:v5e", "v5e:4x4", "gpu:h100"; it need not be here.
        batch: which argument holds the batch, first in every leaf, or which do; needed for
            microbatches and for the largest batch.
        donate: arguments that may be overwritten; "auto" takes those that the step returns in new
            versions: the same structure with the same shapes and types (`donatable`).
        largest: also look for the largest batch that fits in any of the best forms.
        most: compilations at most, largest batch not counted.
        tell: called with every try.

    Raises:
        DoesNotFitError: (a ValueError) no form fits: the smallest, how much is missing, and what
            holds its peak.
        ValueError: an argument is wrong.
    """
    batch = _indices(batch, "batch")
    if largest and not batch:
        raise ValueError("largest needs batch: say which arguments hold it, such as batch=(1,)")
    search = search_of(step, args, budget, target, batch=batch, donate=donate, most=most, tell=tell)
    search.run(_divisors(args, batch))
    return finish(search, rows=_rows(args, batch), largest=largest, unit=search.target.mesh.size)


def search_of(
    step: Callable[..., Any],
    args: Sequence[Any],
    budget: str | float,
    target: str | Target = "cpu",
    *,
    batch: Sequence[int] = (),
    donate: int | Sequence[int] | Literal["auto"] = "auto",
    most: int = 40,
    tell: Callable[[Try], None] | None = None,
) -> Search:
    """The search of `fit` before its first compilation; arguments and errors as there."""
    size, args = parse_bytes(budget, "budget"), _arguments(args)
    if most < 1:
        raise ValueError(f"most is {most}: give at least 1 compilation")
    target = parse_target(target) if isinstance(target, str) else target
    _check(args, batch, "batch")
    takes_form = "form" in inspect.signature(step).parameters
    if donate == "auto":
        donated, undecided = donatable(step, args, batch)
    else:
        donated, undecided = _indices(donate, "donate"), ()
    _check(args, donated, "donate")

    def build(form: Form, rows: int | None, mesh: Any) -> Program:
        sized = tuple(_resized(arg, rows) if i in batch else arg for i, arg in enumerate(args))
        return Program(_in_form(step, form) if takes_form else step, sized, donated)

    search = Search(build, target, size, cache=cache_folder("fit"), tell=tell, most=most)
    search.donate, search.undecided = donated, undecided
    search.has_forms = takes_form
    search.stepped = lambda form: functools.partial(step, form=form) if takes_form else step
    if takes_form:
        search.bases = (Form(layers="list"), Form(layers="scan"))
        search.names = tuple(value_names(step, *args))
    return search


def finish(
    search: Search,
    *,
    rows: int | None = None,
    largest: bool = False,
    unit: int = 1,
) -> FitPlan:
    """The plan that a search has come to.

    Args:
        rows: of the batch as given, where its size can be changed.
        largest: look for the largest batch, too.
        unit: batches come in multiples of this, for each microbatch.

    Raises:
        DoesNotFitError: nothing fits.
    """
    fitting = search.fitting()
    if not fitting:
        raise DoesNotFitError(_misfit(search), search.tries)
    best = None
    if largest and rows is not None and not search.interrupted:
        for start in starts(search, fitting[0]):
            found = largest_batch(search, start, rows, unit * start.form.microbatches)
            if found and (best is None or (found.batch or 0) > (best.batch or 0)):
                best = found
    return FitPlan(
        fitting[0],
        best,
        tuple(search.tries),
        search.target.name,
        search.budget,
        search.donate,
        search.undecided,
        search.interrupted,
        search.stepped,
    )


def _in_form(step: Callable[..., Any], form: Form) -> Callable[..., Any]:
    # A new function each time: JAX remembers traces by function.
    def run(*args: Any) -> Any:
        return step(*args, form=form)

    run.__name__ = getattr(step, "__name__", "step")
    return run


def _arguments(args: Any) -> tuple[Any, ...]:
    if not isinstance(args, (tuple, list)):
        raise ValueError(
            f"args is of type {type(args).__name__}: give what the step is called with as a tuple"
        )
    return tuple(args)


def _indices(chosen: Any, name: str) -> tuple[int, ...]:
    """Numbers of arguments: one, or several."""
    several = (chosen,) if isinstance(chosen, int) else tuple(chosen)
    for index in several:
        if not isinstance(index, int) or isinstance(index, bool):
            raise ValueError(f"{name} has {index!r}: give numbers of arguments, such as (1,)")
    return several


def _check(args: tuple[Any, ...], chosen: Sequence[int], name: str) -> None:
    for index in chosen:
        if not 0 <= index < len(args):
            raise ValueError(f"{name} has {index}: the step has arguments 0 to {len(args) - 1}")


def _rows(args: tuple[Any, ...], batch: Sequence[int]) -> int | None:
    """Rows of the batch.

    Raises:
        ValueError: leaves differ in them.
    """
    found = {leaf.shape[:1] for i in batch for leaf in jax.tree.leaves(args[i])}
    if len(found) > 1 or () in found:
        raise ValueError(f"leading axes {sorted(found)} of the batch differ: give all the same")
    return found.pop()[0] if found else None


def _divisors(args: tuple[Any, ...], batch: Sequence[int]) -> list[int]:
    rows = _rows(args, batch) or 1
    return [parts for parts in MICROBATCHES if parts <= rows and rows % parts == 0]


def _resized(tree: PyTree, rows: int | None) -> PyTree:
    def one(x: Any) -> jax.ShapeDtypeStruct:
        shape = x.shape if rows is None else (rows, *x.shape[1:])
        where = x.sharding if isinstance(x, jax.ShapeDtypeStruct) else None
        return jax.ShapeDtypeStruct(shape, x.dtype, sharding=where)

    return jax.tree.map(one, tree)


def starts(search: Search, chosen: Try) -> list[Try]:
    """Forms whose largest batch is worth asking for: the smallest one, and what was chosen."""
    if search.names:
        search.ask(dataclasses.replace(chosen.form, remat="full"))
    return list(dict.fromkeys((search.smallest(), chosen)))


def _misfit(search: Search) -> str:
    """What to say where nothing fits."""
    least = search.smallest()
    peak = least.verdict.peak_bytes
    if not peak:
        return f"nothing fits into {bytes_text(search.budget)}: {least.verdict.error}"
    short = peak - search.budget
    text = (
        f"nothing fits into {bytes_text(search.budget)} on {search.target.name}: the smallest form "
        f"({least}) has a peak of {bytes_text(peak)}, {bytes_text(short)} ({short} bytes) too much"
    )
    held = _residents(search, least)
    text = f"{text}. Its peak holds {held}" if held else text
    return f"{text}; {described(search.undecided)}" if search.undecided else text


def _residents(search: Search, least: Try) -> str:
    """The largest buffers of a form at its peak, where the compiler tells."""
    if least.verdict.error:
        return ""
    program = search.build(least.form, least.batch, search.target.mesh)
    try:
        lowered, _ = lower(program, search.target)
        _, traced = compile_traced(lowered, dict(least.lever.options))
    except ValueError:
        return ""
    records = [*traced.residents.records, *traced.heap.records]
    top = sorted(records, key=lambda record: -record.size)[:RESIDENTS]
    return ", ".join(f"{r.id} ({r.kind}, {bytes_text(r.size)})" for r in top)
