"""The search for the cheapest form of a step that fits, judged by the compiler alone.

Forms are compiled from the least arithmetic on: without recomputation; with full recomputation, to
know what it can save; then what lies between, halving the number of values that are kept. What
programs have in common is compiled once: forms that do not change the program have one hash.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loomax.memory.forms.arguments import argument_bytes
from loomax.memory.forms.form import Form
from loomax.memory.forms.judge import Program, Verdict, judge, trace
from loomax.memory.forms.levers import DEFAULT, Lever, levers
from loomax.memory.report.text import bytes_text
from loomax.runtime.flops import matmul_flops
from loomax.runtime.target import Target

Build = Callable[[Form, int | None, Any], Program]
# Where full recomputation takes that much more than there is, only microbatches can help.
HOPELESS = 1.5
KEPT = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class Try:
    """One form and what the compiler said of it.

    Args:
        batch: rows of the batch; None: as given.
    """

    form: Form
    lever: Lever
    batch: int | None
    verdict: Verdict
    flops: float  # of a row, comparable between forms; see `Search.cost`

    def __str__(self) -> str:
        lever = "" if self.lever == DEFAULT else f", {self.lever.name}"
        batch = "" if self.batch is None else f", batch {self.batch}"
        return f"{self.form}{lever}{batch}"


class DoesNotFitError(ValueError):
    """No form that was tried fits; `tries` has them all."""

    def __init__(self, message: str, tries: Sequence[Try] = ()):
        super().__init__(message)
        self.tries = tuple(tries)


@dataclass
class Search:
    """Compiles forms of a step and remembers them.

    Args:
        build: the step's program in a form, for a batch size, on a mesh.
        budget: bytes of one device.
        names: `checkpoint_name`s that may be kept or moved.
        bases: forms without recomputation to start from.
        cache: folder of verdicts.
        tell: called with every try.
        most: compilations at most.
        with_levers: pull the backend's own levers, too.
        donate: arguments that the step overwrites.
        undecided: arguments that may be overwritten or not: who calls the step knows.
        stepped: the step in a form; None for the program of a configuration.
        has_forms: whether there is more than one form.
    """

    build: Build
    target: Target
    budget: int
    names: Sequence[str] = ()
    bases: Sequence[Form] = (Form(),)
    cache: Path | None = None
    tell: Callable[[Try], None] | None = None
    most: int = 40
    with_levers: bool = True
    donate: tuple[int, ...] = ()
    undecided: tuple[int, ...] = ()
    stepped: Callable[[Form], Callable[..., Any]] | None = None
    has_forms: bool = True
    tries: list[Try] = field(default_factory=list)
    interrupted: bool = False

    def ask(self, form: Form, lever: Lever = DEFAULT, batch: int | None = None) -> Try:
        """The compiler's word on a form, asked for once."""
        for known in self.tries:
            if (known.form, known.lever, known.batch) == (form, lever, batch):
                return known
        program = self.build(form, batch, self.target.mesh)
        verdict = judge(program, self.target, lever, self.cache)
        found = Try(form, lever, batch, verdict, self.cost(form, lever, batch, verdict))
        self.tries.append(found)
        if self.tell is not None:
            self.tell(found)
        return found

    def cost(self, form: Form, lever: Lever, batch: int | None, verdict: Verdict) -> float:
        """Operations of a device: the traced products, and what the compiler adds on its own.

        Under a declared budget the compiler recomputes; what it counts above its count for the same
        form without one is added.
        """
        if lever == DEFAULT or verdict.error:
            return verdict.flops
        plain = self.ask(form, DEFAULT, batch).verdict
        added = verdict.compiler_flops - plain.compiler_flops
        return verdict.flops + (max(0.0, added) if not plain.error else 0.0)

    def fitting(self, batch: int | None = None) -> list[Try]:
        """What fits, the least arithmetic first, then the least memory."""
        found = [t for t in self.tries if t.batch == batch and t.verdict.fits(self.budget)]
        return sorted(found, key=lambda t: (t.flops, t.verdict.peak_bytes))

    def smallest(self, batch: int | None = None) -> Try:
        """The least peak so far, whether it fits or not."""
        found = [t for t in self.tries if t.batch == batch and t.verdict.peak_bytes]
        return min(found or self.tries, key=lambda t: t.verdict.peak_bytes)

    def run(self, microbatches: Sequence[int] = ()) -> None:
        """Tries forms until nothing cheaper is left, or Ctrl-C.

        Args:
            microbatches: numbers of parts to fall back on where nothing else fits.

        Raises:
            DoesNotFitError: the arguments alone are too large; nothing was compiled.
        """
        if self.most < 1:
            raise ValueError(f"most is {self.most}: give at least 1 compilation")
        self._refuse_hopeless()
        try:
            if self.has_forms:
                self._run(microbatches)
            else:
                self._levers_only()
        except KeyboardInterrupt:
            if not self.tries:
                raise
            self.interrupted = True

    def _refuse_hopeless(self) -> None:
        """Every form holds its arguments: where they are too large, no compiler is asked."""
        programs = [self.build(base, None, self.target.mesh) for base in self.bases]
        least = min(argument_bytes(program, self.target) for program in programs)
        if least > self.budget:
            raise DoesNotFitError(
                f"nothing fits into {bytes_text(self.budget)} on {self.target.name}: the arguments "
                f"of the step alone take {bytes_text(least)} ({least} bytes) of each device"
            )

    def _levers_only(self) -> None:
        self.ask(Form())
        if not self.fitting():
            self.pull_levers(1)

    def _run(self, microbatches: Sequence[int]) -> None:
        for base in self.bases:
            if self.ask(base).verdict.fits(self.budget):
                return
        self.policies(1)
        for index, parts in enumerate(microbatches):
            if self.fitting() or len(self.tries) >= self.most:
                return
            self.policies(parts)
            if self.fitting() and len(self.tries) < self.most:
                # Smaller parts leave room for keeping more.
                for more in microbatches[index + 1 : index + 2]:
                    self.policies(more)

    def policies(self, parts: int) -> None:
        """Forms between no recomputation and all of it, in `parts` microbatches."""
        forms = [dataclasses.replace(b, remat="full", microbatches=parts) for b in self.bases]
        full = [self.ask(form) for form in forms]
        # An error without a size counts as the worst.
        best = min(full, key=lambda t: t.verdict.peak_bytes or float("inf"))
        fitting = [t for t in full if t.verdict.fits(self.budget)]
        if fitting:
            base = min(fitting, key=lambda t: (t.flops, t.verdict.peak_bytes)).form
            self.kept(base)
            self.by_name(base)
        elif best.verdict.peak_bytes > HOPELESS * self.budget:
            return
        else:
            # Keeping more seldom helps then, but a little can: what is recomputed is held, too.
            self.ask(dataclasses.replace(best.form, remat="keep:2"))
        if self.with_levers:
            self.pull_levers(parts)

    def kept(self, base: Form) -> None:
        """The most values that can be kept, by halving."""
        counts = self.distinct(base)
        low, high = 0, len(counts) - 1
        while low <= high and len(self.tries) < self.most:
            middle = (low + high) // 2
            found = self.ask(dataclasses.replace(base, remat=f"keep:{counts[middle]}"))
            if found.verdict.fits(self.budget):
                low = middle + 1
            else:
                high = middle - 1

    def distinct(self, base: Form) -> list[int]:
        """Counts of kept values whose programs differ in arithmetic; only traced, not compiled."""
        counts, before = [], 0.0
        for count in KEPT:
            form = dataclasses.replace(base, remat=f"keep:{count}")
            program = self.build(form, None, self.target.mesh)
            flops = matmul_flops(trace(program, self.target).jaxpr)
            if flops == before and count > 2:
                break
            counts.append(count)
            before = flops
        return counts

    def by_name(self, base: Form) -> None:
        """Products, and values by name: each alone and all, kept or moved to the host."""
        specs = ["dots"]
        words = ["names"] if self.target.platform == "cpu" else ["names", "offload"]
        for word in words:
            several = [",".join(self.names)] if len(self.names) > 1 else []
            specs += [f"{word}:{name}" for name in [*self.names, *several]]
        for spec in specs:
            if len(self.tries) < self.most:
                self.ask(dataclasses.replace(base, remat=spec))

    def pull_levers(self, parts: int) -> None:
        """The backend's own levers, on the forms that they are most likely to help."""
        here = [t for t in self.tries if t.form.microbatches == parts and t.lever == DEFAULT]
        # What fits without a lever can only be beaten by what computes less.
        limit = min((t.flops for t in self.fitting()), default=float("inf"))
        here = [t for t in here if t.batch is None and t.flops < limit]
        near = sorted(here, key=lambda t: (abs(t.verdict.peak_bytes - self.budget), t.flops))
        cheap = sorted(here, key=lambda t: t.flops)
        forms = dict.fromkeys(t.form for t in [*cheap[:1], *near[:2]])
        for lever in levers(self.target, self.budget):
            for form in forms:
                if len(self.tries) < self.most:
                    self.ask(form, lever)
