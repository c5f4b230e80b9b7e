"""The answer of `fit`: the form to run, and everything that was tried."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from loomax.memory.forms.donation import described
from loomax.memory.forms.form import Form
from loomax.memory.forms.search import Try
from loomax.memory.report.text import bytes_text


@dataclass(frozen=True)
class FitPlan:
    """A form of a step that fits.

    Args:
        chosen: the least arithmetic among what fits.
        largest: the form with the largest batch; None if that was not asked for.
        tries: everything that was compiled, in that order.
        target: name of the target.
        budget: bytes of one device.
        donate: arguments that the step overwrites.
        undecided: arguments that it may or may not overwrite: give `donate`.
        interrupted: the search was stopped by Ctrl-C.
        stepped: the step in a form; None: the plan is of a configuration.
    """

    chosen: Try
    largest: Try | None
    tries: tuple[Try, ...]
    target: str
    budget: int
    donate: tuple[int, ...] = ()
    undecided: tuple[int, ...] = ()
    interrupted: bool = False
    stepped: Callable[[Form], Callable[..., Any]] | None = None

    @property
    def step(self) -> Callable[..., Any]:
        """The step in the chosen form, to be jitted with `options`."""
        if self.stepped is None:
            raise ValueError("this plan is of a configuration: train with its form instead")
        return self.stepped(self.chosen.form)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `jax.jit` that belong to the plan."""
        options = dict(self.chosen.lever.options)
        return {"donate_argnums": self.donate} | ({"compiler_options": options} if options else {})

    def jit(self) -> Callable[..., Any]:
        """`step`, jitted."""
        return jax.jit(self.step, **self.options)

    def lines(self) -> list[str]:
        """The plan as text: the verdict, then a table of all that was tried."""
        peak = bytes_text(self.chosen.verdict.peak_bytes)
        head = [f"{self.target}, {bytes_text(self.budget)} a device: {self.chosen}: peak {peak}"]
        if self.donate:
            head.append(f"donated: argument {', '.join(str(i) for i in self.donate)}")
        if self.undecided:
            head.append(described(self.undecided))
        if self.largest is not None:
            peak = bytes_text(self.largest.verdict.peak_bytes)
            head.append(f"largest batch: {self.largest.batch}, {self.largest}: peak {peak}")
        if self.interrupted:
            head.append("stopped by Ctrl-C: what follows is what is known")
        return [*head, *table(self.tries, self.budget)]


def table(tries: Sequence[Try], budget: int) -> list[str]:
    """One line for each form, by peak."""
    ordered = sorted(tries, key=lambda t: (t.batch or 0, t.verdict.peak_bytes or float("inf")))
    least = min((t.flops for t in tries if t.flops), default=0.0)
    width = max(len(str(t)) for t in ordered)
    rows = [f"{'form':<{width}}  {'peak':>10}  {'temporary':>10}  {'FLOPs':>7}"]
    for t in ordered:
        verdict = t.verdict
        peak = bytes_text(verdict.peak_bytes) if verdict.peak_bytes else "-"
        temp = bytes_text(verdict.temp_bytes) if not verdict.error else "-"
        cost = f"{t.flops / least:7.3f}" if least else "      -"
        word = "fits" if verdict.fits(budget) else "out of memory" if verdict.error else "too large"
        rows.append(f"{t!s:<{width}}  {peak:>10}  {temp:>10}  {cost}  {word}")
    return rows
