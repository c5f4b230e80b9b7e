"""Lifetimes of a function's buffers, from its jaxpr: equations run one by one, in program order.

That is how a framework without a compiler runs the function: each equation takes memory for its
results, and a value is freed after the last equation that reads it. Loops and branches are one
equation: what their bodies need inside is not listed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace

# Calls that are read through: primitive name -> parameter that holds the body.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_lin": "call_jaxpr",
}
# Results that can be the operand's own bytes, read in another way.
VIEWS = frozenset(
    ("reshape", "squeeze", "expand_dims", "transpose", "broadcast_in_dim", "slice", "stop_gradient")
)
# Each element of the result needs only the elements of the operands in the same place.
ELEMENTWISE = frozenset(
    (
        "abs add add_any and ceil clamp convert_element_type copy cos div erf exp exp2 expm1 floor "
        "integer_pow is_finite log log1p logistic max min mul neg not or pow rem round rsqrt "
        "select_n sign sin sqrt square sub tan tanh xor"
    ).split()
)


@dataclass(frozen=True)
class Step:
    """One equation: the values that it reads and writes, by index."""

    primitive: str
    scope: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """A jaxpr without nesting.

    Args:
        sizes: bytes of each value.
        inputs: values of the arguments.
        constants: values of what the function closes over.
        outputs: values of the results; None for one that is a literal.
        steps: in program order.
    """

    sizes: tuple[int, ...]
    inputs: tuple[int, ...]
    constants: tuple[int, ...]
    outputs: tuple[int | None, ...]
    steps: tuple[Step, ...]


def flatten(closed: ClosedJaxpr, views: bool = False) -> Program:
    """The steps of a jaxpr, those of nested calls among them.

    Args:
        views: results of `VIEWS` are their operand's buffer, which then lives longer.
    """
    reader = _Reader(views)
    inputs = tuple(reader.value(var) for var in closed.jaxpr.invars)
    constants = tuple(reader.value(var) for var in closed.jaxpr.constvars)
    env = dict(zip(closed.jaxpr.invars, inputs, strict=True))
    env |= dict(zip(closed.jaxpr.constvars, constants, strict=True))
    outputs = reader.read(closed.jaxpr, env)
    return Program(tuple(reader.sizes), inputs, constants, tuple(outputs), tuple(reader.steps))


def jaxpr_trace(
    closed: ClosedJaxpr,
    alignment: int = 512,
    views: bool = False,
    reuse: bool = False,
    source: str = "jaxpr",
) -> Trace:
    """The buffers of a function, of which step k takes time k.

    Inputs and constants live throughout, results from their step to the end. The phase is "A -> B",
    the outermost `jax.named_scope` of the step that writes a buffer and of the last that reads it.

    Args:
        closed: from `jax.make_jaxpr(function)(*args)`.
        alignment: of each buffer.
        views: as `flatten`.
        reuse: a result of an elementwise step takes the place of an operand that dies there and has
            as many bytes.
        source: name of the trace.
    """
    program = flatten(closed, views)
    end = max(len(program.steps), 1)
    births, deaths, scopes = _spans(program, end)
    kinds = _kinds(program)
    groups = _reused(program, kinds, deaths) if reuse else {}
    return Trace(
        tuple(
            Lifetime(
                str(value),
                size,
                births[value],
                deaths[value],
                alignment,
                kinds[value],
                " -> ".join(scopes[value]),
                groups.get(value, ""),
            )
            for value, size in enumerate(program.sizes)
        ),
        source,
    )


def bytes_of(aval: Any) -> int:
    """Bytes of an abstract array; 0 for what is none, such as a token."""
    shape, dtype = getattr(aval, "shape", None), getattr(aval, "dtype", None)
    return 0 if shape is None or dtype is None else prod(shape) * dtype.itemsize


class _Reader:
    """Numbers the values and lists the steps while it walks through nested jaxprs."""

    def __init__(self, views: bool):
        self.sizes: list[int] = []
        self.steps: list[Step] = []
        self._views = views

    def value(self, var: Any) -> int:
        self.sizes.append(bytes_of(var.aval))
        return len(self.sizes) - 1

    def read(self, jaxpr: Jaxpr, env: dict[Any, int | None], scope: str = "") -> list[int | None]:
        """Values of a jaxpr's results; None stands for a literal."""

        def find(var: Any) -> int | None:
            return None if isinstance(var, Literal) else env[var]

        for eqn in jaxpr.eqns:
            name = eqn.primitive.name
            operands = [find(var) for var in eqn.invars]
            inside = scope or str(eqn.source_info.name_stack).split("/")[0]
            if name in CALLS and CALLS[name] in eqn.params:
                results = self._call(eqn.params[CALLS[name]], operands, inside)
            elif self._views and name in VIEWS and operands[0] is not None:
                results = operands[:1]
            else:
                results = [self.value(var) for var in eqn.outvars]
                reads = tuple(dict.fromkeys(value for value in operands if value is not None))
                self.steps.append(Step(name, inside, reads, tuple(results)))
            env |= dict(zip(eqn.outvars, results, strict=True))
        return [find(var) for var in jaxpr.outvars]

    def _call(self, body: Any, operands: Sequence[int | None], scope: str) -> list[int | None]:
        jaxpr = body.jaxpr if isinstance(body, ClosedJaxpr) else body
        env: dict[Any, int | None] = dict(zip(jaxpr.invars, operands, strict=True))
        env |= {var: self.value(var) for var in jaxpr.constvars}
        return self.read(jaxpr, env, scope)


def _spans(program: Program, end: int) -> tuple[list[int], list[int], list[list[str]]]:
    """Births, deaths and the two scopes of all values."""
    count = len(program.sizes)
    births, deaths = [0] * count, [end] * count
    scopes = [["start", "end"] for _ in range(count)]
    written = {value for step in program.steps for value in step.writes}
    keep = {value for value in program.outputs if value is not None}
    for time, step in enumerate(program.steps):
        for value in step.writes:
            births[value] = time
            scopes[value][0] = step.scope
        for value in step.reads + step.writes:
            if value in written and value not in keep:
                deaths[value] = time + 1
                scopes[value][1] = step.scope
    return births, deaths, scopes


def _kinds(program: Program) -> list[str]:
    kinds = ["temporary"] * len(program.sizes)
    written = {value for step in program.steps for value in step.writes}
    for value in range(len(kinds)):
        if value not in written:
            kinds[value] = "constant"
    for value in program.outputs:
        if value is not None:
            kinds[value] = "output"
    for value in program.inputs:
        kinds[value] = "input"
    return kinds


def _reused(program: Program, kinds: list[str], deaths: list[int]) -> dict[int, str]:
    """Alias groups of results that take an operand's place; that operand now ends at that step."""
    groups: dict[int, str] = {}
    for time, step in enumerate(program.steps):
        if step.primitive not in ELEMENTWISE:
            continue
        for value in step.reads:
            same = program.sizes[value] == program.sizes[step.writes[0]]
            if kinds[value] == "temporary" and deaths[value] == time + 1 and same:
                groups.setdefault(value, f"in place {value}")
                groups[step.writes[0]] = groups[value]
                deaths[value] = time
                break
    return groups
