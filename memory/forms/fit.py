"""`fit`: the cheapest form of a training step that fits a budget of memory."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
from jaxtyping import PyTree

from loomax.memory.forms.batch import largest_batch
from loomax.memory.forms.form import Form
from loomax.memory.forms.judge import Program, lower
from loomax.memory.forms.plan import DoesNotFitError, FitPlan
from loomax.memory.forms.search import Search, Try
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
    budget: str | int,
    target: str | Target = "cpu",
    *,
    batch: Sequence[int] = (),
    donate: Sequence[int] | Literal["auto"] = "auto",
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
        batch: which arguments hold the batch, first in every leaf; needed for microbatches and
            for the largest batch.
        donate: arguments that may be overwritten; "auto" takes those whose arrays the step returns
            in new versions.
        largest: also look for the largest batch that fits in any of the best forms.
        most: compilations at most, largest batch not counted.
        tell: called with every try.

    Raises:
        DoesNotFitError: (a ValueError) no form fits: the smallest, how much is missing, and what
            holds its peak.
        ValueError: an argument is wrong.
    """
    search = search_of(step, args, budget, target, batch=batch, donate=donate, most=most, tell=tell)
    if search.written is None:
        _only_levers(search)
    else:
        search.run(_divisors(args, batch))
    return finish(search, rows=_rows(args, batch), largest=largest, unit=search.target.mesh.size)


def search_of(
    step: Callable[..., Any],
    args: Sequence[Any],
    budget: str | int,
    target: str | Target = "cpu",
    *,
    batch: Sequence[int] = (),
    donate: Sequence[int] | Literal["auto"] = "auto",
    most: int = 40,
    tell: Callable[[Try], None] | None = None,
) -> Search:
    """The search of `fit` before its first compilation; arguments and errors as there."""
    budget, args = parse_bytes(budget), tuple(args)
    target = parse_target(target) if isinstance(target, str) else target
    _check(args, batch, "batch")
    takes_form = "form" in inspect.signature(step).parameters
    donated = _donatable(step, args) if donate == "auto" else tuple(donate)
    _check(args, donated, "donate")

    def build(form: Form, rows: int | None, mesh: Any) -> Program:
        sized = tuple(_resized(arg, rows) if i in batch else arg for i, arg in enumerate(args))
        return Program(_in_form(step, form) if takes_form else step, sized, donated)

    search = Search(build, target, budget, cache=cache_folder("fit"), tell=tell, most=most)
    search.donate = donated
    if takes_form:
        search.written = step
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
        search.interrupted,
        search.written,
    )


def _in_form(step: Callable[..., Any], form: Form) -> Callable[..., Any]:
    # A new function each time: JAX remembers traces by function.
    def run(*args: Any) -> Any:
        return step(*args, form=form)

    run.__name__ = getattr(step, "__name__", "step")
    return run


def _only_levers(search: Search) -> None:
    search.ask(Form())
    if not search.fitting():
        search.pull_levers(1)


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


def _donatable(step: Callable[..., Any], args: tuple[Any, ...]) -> tuple[int, ...]:
    """Arguments whose arrays all have a result of their shape and type to themselves."""
    results = [(x.shape, x.dtype) for x in jax.tree.leaves(jax.eval_shape(step, *args))]
    found = []
    for index, arg in enumerate(args):
        wanted = [(jax.typeof(x).shape, jax.typeof(x).dtype) for x in _leaves(arg)]
        left = list(results)
        if wanted and all(_taken(left, item) for item in wanted):
            results = left
            found.append(index)
    return tuple(found)


def _leaves(arg: Any) -> list[Any]:
    return jax.tree.leaves(jax.eval_shape(lambda x: x, arg))


def _taken(results: list[Any], item: Any) -> bool:
    if item not in results:
        return False
    results.remove(item)
    return True


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
    return f"{text}. Its peak holds {held}" if held else text


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
