"""A program run once on shapes: its graph of stages."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import jax
from jaxtyping import PyTree

from loomax.agents.workflow.stage import Stage, size_in_bytes
from loomax.agents.workflow.workflow import Call, Edge, Workflow

OUTSIDE = "values are only shapes while a program is traced: compute with them inside a stage"


def trace(program: Callable, *inputs: PyTree, batch: int | None = None) -> Workflow:
    """The workflow of a program.

    Args:
        program: ordinary code that calls stages and `loop`; it is run once, on shapes.
        inputs: its arguments, as arrays or shapes.
        batch: items of one iteration; by default the first size of the first input that some
            stage takes as batched data.

    Raises:
        ValueError: the program calls no stage, computes outside of stages, or has no batch.
    """
    graph = _Graph()
    try:
        program(*(graph.wrap(value, f"input {i}") for i, value in enumerate(inputs)))
    except TypeError as error:
        # Operators and JAX refuse a Value by the name of its type.
        if Value.__name__ in str(error):
            raise ValueError(f"{OUTSIDE} ({error})") from error
        raise
    if not graph.calls:
        raise ValueError("the program calls no stage: wrap its functions in Stage")
    batch = batch or graph.batch
    if not batch:
        raise ValueError("no stage takes batched data from the inputs: give batch")
    return Workflow(tuple(graph.calls), graph.resolved_edges(batch), batch)


@dataclass
class _Carry:
    """What a loop carries: from before it, then from its own last round."""

    before: Any
    after: Any = None


@dataclass
class _Flow:
    source: Any
    target: int
    bytes: int


@dataclass
class _Graph:
    """Calls and flows so far, and how often what is called now runs."""

    calls: list[Call] = field(default_factory=list)
    flows: dict[tuple, _Flow] = field(default_factory=dict)
    names: Counter[str] = field(default_factory=Counter)
    times: int = 1
    batch: int = 0

    def wrap(self, tree: PyTree, source: Any = None) -> PyTree:
        """Values in place of the arrays or shapes of a tree."""
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: Value(self, _shape(leaf), source, path), tree
        )

    def add(self, stage: Stage, args: tuple) -> PyTree:
        """Records a call; returns its output, in values."""
        shapes = tuple(jax.tree.map(_shape, arg) for arg in args)
        output = jax.eval_shape(stage.fn, *shapes)
        self.names[stage.name] += 1
        again = self.names[stage.name]
        name = stage.name if again == 1 else f"{stage.name}#{again}"
        resident = size_in_bytes([shapes[i] for i in stage.resident])
        named = _named([args[i] for i in stage.resident])
        options = stage.batch_axis, stage.fusable, self.times, stage.fn, named
        rest = {"background": stage.background, "multiple": stage.multiple}
        self.calls.append(Call(name, stage.name, shapes, output, resident, *options, **rest))
        for position, arg in enumerate(args):
            self._flow(arg, stage.batch_axis, position in stage.resident)
        return self.wrap(output, len(self.calls) - 1)

    def _flow(self, arg: PyTree, axis: int | None, resident: bool) -> None:
        """Notes what an argument comes from. Residents are no traffic, but have to be there."""
        target = len(self.calls) - 1
        for value in jax.tree.leaves(arg):
            if isinstance(value, Value):
                key = id(value.source), value.path, target
                size = 0 if resident else size_in_bytes(value.structure)
                size = max(size, self.flows[key].bytes) if key in self.flows else size
                self.flows[key] = _Flow(value.source, target, size)
                new = not self.batch and not resident and axis is not None
                if new and not origins(value.source):
                    self.batch = value.shape[axis]

    def resolved_edges(self, batch: int) -> tuple[Edge, ...]:
        total: Counter[tuple[int, int, bool]] = Counter()
        for flow in self.flows.values():
            for source, back in origins(flow.source):
                # What enters or leaves a loop does so once; inside it moves every round.
                times = min(self.calls[source].times, self.calls[flow.target].times)
                total[source, flow.target, back] += flow.bytes * times
        return tuple(
            Edge(self.calls[source].name, self.calls[target].name, size / batch, back)
            for (source, target, back), size in total.items()
        )


def origins(source: Any) -> list[tuple[int, bool]]:
    """(call, whether by way of a loop's last round) that a value may come from."""
    found: list[tuple[int, bool]] = []
    waiting, seen = [(source, False)], set()
    while waiting:
        at, back = waiting.pop()
        if isinstance(at, int):
            found.append((at, back))
        elif isinstance(at, _Carry) and id(at) not in seen:
            seen.add(id(at))
            waiting += [(at.after, True), (at.before, back)]
    return sorted(set(found))


@dataclass(frozen=True, eq=False)
class Value:
    """Stands for an array while a program is traced: its shape, and which call it is from.

    Args:
        source: index of the call, a loop's carry, the name of an input, or None for constants.
        path: to this array in what the source gives.
    """

    graph: _Graph
    structure: jax.ShapeDtypeStruct
    source: Any
    path: tuple = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.structure.shape

    @property
    def dtype(self) -> Any:
        return self.structure.dtype

    def call_stage(self, stage: Stage, args: tuple) -> PyTree:
        """Records a call."""
        return self.graph.add(stage, args)

    def call_loop(self, body: Callable, carry: PyTree, steps: int) -> PyTree:
        """Records one round, and that it repeats."""
        graph = self.graph
        leaves, tree = jax.tree.flatten(carry)
        values = [x if isinstance(x, Value) else graph.wrap(x) for x in leaves]
        carries = [_Carry(value.source) for value in values]
        inside = [replace(x, source=at, path=()) for x, at in zip(values, carries, strict=True)]
        graph.times *= steps
        result = body(jax.tree.unflatten(tree, inside))
        graph.times //= steps
        out, out_tree = jax.tree.flatten(result)
        if out_tree != tree:
            raise ValueError(f"the loop carries {tree}, its body returns {out_tree}: keep it")
        for value, after, at in zip(values, out, carries, strict=True):
            if value.structure != _shape(after):
                raise ValueError(
                    f"the loop carries {value.structure}, its body returns {_shape(after)}: keep "
                    "shapes and types"
                )
            at.after = after.source if isinstance(after, Value) else None
        return result

    def __bool__(self) -> NoReturn:
        raise ValueError(f"{OUTSIDE} ({self.structure})")


def _named(residents: list) -> tuple[tuple[str, int], ...]:
    """Name and bytes of those residents that are inputs, each once."""
    found = {}
    for value in jax.tree.leaves(residents):
        if isinstance(value, Value) and isinstance(value.source, str):
            name = value.source + jax.tree_util.keystr(value.path)
            found[name] = size_in_bytes(value.structure)
    return tuple(found.items())


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    if isinstance(x, Value):
        return x.structure
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.ShapeDtypeStruct(jax.numpy.shape(x), jax.dtypes.result_type(x))
