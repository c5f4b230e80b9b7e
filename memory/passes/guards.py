"""Where a lowered program guards recomputation, and what each guard is worth.

JAX 0.10 puts an `optimization_barrier` over the residuals and the cotangents of each
`jax.checkpoint`, and the name scope `rematted_computation` on what is computed again from them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxlib.mlir import ir

from loomax.jaxlib_ext.fence import TARGET
from loomax.memory.schedule.held import choose

BARRIER = "stablehlo.optimization_barrier"
RECOMPUTED = "rematted_computation"


@dataclass
class Guard:
    """A barrier, and what is recomputed from its results.

    Attributes:
        names: of the barrier, then of the recomputed operations, without repetition.
        work: bytes of each recomputed value, and which results it comes from (bit i: result i).
    """

    barrier: ir.OpView
    names: dict[str, None] = field(default_factory=dict)
    work: list[tuple[int, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return next(iter(self.names))

    def held(self) -> list[int]:
        """Results that pay to hold back; all if JAX did not write the barrier, none if fenced."""
        results = list(self.barrier.results)
        if any(_is_fence(use.owner) for result in results for use in result.uses):
            return []
        if not self.work and self.name.endswith("optimization_barrier"):
            return list(range(len(results)))
        return choose([value_bytes(result) for result in results], self.work)


def guards_of(module: ir.Module) -> list[Guard]:
    """Every guard of a StableHLO module, in the order of the program."""
    functions = {op.attributes["sym_name"].value: op for op in module.body.operations}
    inside: dict[str, int] = {}

    def called_bytes(name: str) -> int:
        if name not in inside:
            inside[name] = 0
            blocks = [block for region in functions[name].regions for block in region]
            inside[name] = sum(made_bytes(op) for block in blocks for op in block.operations)
        return inside[name]

    def made_bytes(op: ir.OpView) -> int:
        if op.operation.name in ("func.call", "call"):
            return called_bytes(op.attributes["callee"].value)
        # A loop hands on what nobody takes.
        return sum(value_bytes(result) for result in op.results if any(True for _ in result.uses))

    found: list[Guard] = []
    for function in functions.values():
        for block in _blocks(function):
            found += _guards_in(block, made_bytes)
    return found


def _blocks(op: ir.OpView) -> Iterator[ir.Block]:
    for region in op.regions:
        for block in region:
            yield block
            for inner in block.operations:
                yield from _blocks(inner)


def _guards_in(block: ir.Block, made_bytes: Any) -> list[Guard]:
    found: list[Guard] = []
    sources: dict[ir.Value, dict[int, int]] = {}
    for op in block.operations:
        name = op_name(op)
        if op.operation.name == BARRIER:
            for i, result in enumerate(op.results):
                sources[result] = {len(found): 1 << i}
            found.append(Guard(op, {name: None}))
        elif RECOMPUTED in name:
            masks = _union([sources[value] for value in op.operands if value in sources])
            sources |= {result: masks for result in op.results}
            for index, mask in masks.items():
                found[index].names[name] = None
                found[index].work.append((made_bytes(op), mask))
    return found


def _union(parts: Sequence[dict[int, int]]) -> dict[int, int]:
    joined: dict[int, int] = {}
    for part in parts:
        for index, mask in part.items():
            joined[index] = joined.get(index, 0) | mask
    return joined


def _is_fence(op: ir.OpView) -> bool:
    if op.operation.name != "stablehlo.custom_call":
        return False
    return op.attributes["call_target_name"].value == TARGET


def op_name(op: ir.OpView) -> str:
    """The name stack of an operation; empty where JAX gave none."""
    location = op.location
    return location.name_str if isinstance(location, ir.NameLoc) else ""


def value_bytes(value: ir.Value) -> int:
    """Bytes of an array; those of tokens and dynamic shapes count as none."""
    kind = value.type
    if not isinstance(kind, ir.RankedTensorType) or not kind.has_static_shape:
        return 0
    element, factor = kind.element_type, 1
    if isinstance(element, ir.ComplexType):
        element, factor = element.element_type, 2
    size = 1
    for length in kind.shape:
        size *= length
    return size * factor * -(-element.width // 8)
