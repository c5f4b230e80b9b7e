"""Steps as one compiled program on a mesh, and stages that are not JAX on the host."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from loomax.agents.workflow.execute.deferred import Deferred, settled
from loomax.agents.workflow.execute.evaluate import StageError, Values, compute, fused
from loomax.agents.workflow.execute.layout import Layout
from loomax.agents.workflow.execute.move import move
from loomax.agents.workflow.execute.record import CallStep, Step, Var, calls_of, variables
from loomax.runtime.compile import physics_options


class Program:
    """Steps that run as one XLA program.

    Args:
        reads, writes: what it takes and gives.
        parts: microbatches of an iteration, if it runs on one of them.
        donate: reads that nothing needs any more. Their memory is given to those results that
            have the same shape, type and sharding.
    """

    def __init__(
        self,
        steps: tuple[Step, ...],
        reads: Sequence[Var],
        writes: Sequence[Var],
        layout: Layout,
        mesh: Mesh,
        *,
        parts: int = 1,
        donate: frozenset[Var] = frozenset(),
    ):
        self.reads, self.writes = tuple(reads), tuple(writes)
        self._layout, self._parts = layout, parts
        self.name = "+".join(call.name for call in calls_of(steps))
        self.places = {
            var: layout.sharding(var, mesh, parts) for var in (*self.reads, *self.writes)
        }
        self.donated = self._matched(donate)

        def run(*args):
            values: Values = dict(zip(self.reads, args, strict=True))
            fused(steps, values, mesh)
            return tuple(values[var] for var in self.writes)

        physics = any(call.stage.physics for call in calls_of(steps))
        platform = mesh.devices.flat[0].platform
        self.options = physics_options(platform) if physics else {}
        run.__name__ = self.name.replace("+", "_").replace("#", "_")
        self._jitted = jax.jit(
            run,
            in_shardings=tuple(self.places[var] for var in self.reads),
            out_shardings=tuple(self.places[var] for var in self.writes),
            donate_argnums=tuple(i for i, var in enumerate(self.reads) if var in self.donated),
            compiler_options=self.options or None,
        )

    def __call__(self, values: Values) -> None:
        """Reads and writes `values`; what lies elsewhere is moved here first.

        Raises:
            StageError: a stage failed, or the program could not be compiled or started.
        """
        args = [move(values[var], self.places[var]) for var in self.reads]
        try:
            found = self._jitted(*args)
        except StageError:
            raise
        except Exception as error:
            raise StageError(f"stage {self.name!r} failed: {error}") from error
        # A result that is an argument as it was must not share its memory, or a later program
        # that reuses the result's would destroy the argument.
        given = {id(arg) for arg in args}
        for var, x in zip(self.writes, found, strict=True):
            values[var] = jnp.copy(x) if id(x) in given else x

    def lower(self) -> Any:
        """Lowered for shapes, to be compiled without being run."""
        return self._jitted.lower(
            *(
                jax.ShapeDtypeStruct(
                    self._layout.shape(var, self._parts), var.dtype, sharding=self.places[var]
                )
                for var in self.reads
            )
        )

    def _matched(self, donate: frozenset[Var]) -> frozenset[Var]:
        free = Counter((v.shape, v.dtype, self.places[v]) for v in self.writes)
        taken = []
        for var in self.reads:
            key = var.shape, var.dtype, self.places[var]
            if var in donate and free[key]:
                free[key] -= 1
                taken.append(var)
        return frozenset(taken)


class HostCall:
    """A stage that is not JAX: it gets NumPy arrays, and the host waits for it.

    Args:
        background: the host waits for its inputs only; its calls keep their order.
    """

    def __init__(
        self,
        step: CallStep,
        layout: Layout,
        mesh: Mesh,
        parts: int = 1,
        *,
        background: bool = False,
    ):
        self.step, self.name = step, step.name
        self.places = {var: layout.sharding(var, mesh, parts) for var in step.outs}
        self._thread = ThreadPoolExecutor(1) if background else None
        self._pending: list[Future] = []

    def __call__(self, values: Values) -> None:
        """Reads and writes `values`.

        Raises:
            StageError: the stage failed.
        """
        given = {var: _on_host(values[var]) for var in variables(self.step.args)}
        if self._thread is None:
            values.update(zip(self.places, self._compute(given), strict=True))
            return
        # Copies: what is on the CPU may be a view of memory that a later program reuses.
        given = {var: x.copy() if isinstance(x, np.ndarray) else x for var, x in given.items()}
        work = self._thread.submit(self._compute, given)
        self._pending.append(work)
        values.update({var: Deferred(work, index) for index, var in enumerate(self.places)})

    def wait(self) -> list[BaseException]:
        """Waits for all work in the background; what went wrong, also where no one looked."""
        errors = [error for work in self._pending if (error := work.exception())]
        self._pending.clear()
        return errors

    def _compute(self, values: Values) -> tuple[Any, ...]:
        compute(self.step, values)
        return tuple(jax.device_put(values[var], place) for var, place in self.places.items())


def _on_host(x: Any) -> Any:
    """As NumPy; typed keys have no such form and stay."""
    x = settled(x)
    typed_key = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return x if typed_key else jax.device_get(x)


def call_program(step: CallStep, layout: Layout, mesh: Mesh, parts: int) -> Program | HostCall:
    """One call as a program of its own."""
    if not step.stage.fusable:
        return HostCall(step, layout, mesh, parts, background=step.stage.background)
    reads = dict.fromkeys(leaf for leaf in jax.tree.leaves(step.args) if isinstance(leaf, Var))
    return Program((step,), tuple(reads), step.outs, layout, mesh, parts=parts)
