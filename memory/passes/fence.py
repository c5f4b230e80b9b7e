"""Schedule fences in a program that was lowered already.

The pass for programs whose layers are under plain `jax.checkpoint`, and whose source cannot be
changed: what `loomax.memory.schedule.remat` does to a function, it does to StableHLO.
"""

import copy
import difflib
import fnmatch
import io
import re
from collections.abc import Sequence
from typing import Any

import jax
from jaxlib.mlir import ir

from loomax.jaxlib_ext import fence as native
from loomax.memory.passes.guards import Guard, guards_of

SHOWN = 8


def fence(lowered: jax.stages.Lowered, blocks: str | Sequence[str]) -> jax.stages.Lowered:
    """The same program, whose recomputation waits for its cotangent.

    XLA:CPU drops the barrier that `jax.checkpoint` puts before a block's recomputation. The pass
    adds, at each one that matches, a native fence on the residuals that hold back more bytes than
    their own. At a barrier that the program itself wrote it fences every operand.

    Args:
        lowered: a program for one device, by `jax.jit(step).lower(...)`.
        blocks: globs of name scopes, "layer_3", "layer_*" or "checkpoint". One matches a block if
            it equals some whole words of the name stack of its barrier or of an operation that is
            recomputed, such as `transpose(jvp(layer_3))/checkpoint/rematted_computation/dot`.

    Raises:
        ValueError: a name matches no block (with those that come near); the program is not for
            CPU; it is for several devices; or nothing in it is recomputed behind a barrier.
        RuntimeError: there is no native fence.
    """
    names = [blocks] if isinstance(blocks, str) else list(blocks)
    _check_target(lowered)
    edited = _copy(lowered)
    chosen = _match(guards_of(edited.compiler_ir("stablehlo")), names)
    if not native.available():
        raise RuntimeError("no native fence: python -m loomax.jaxlib_ext.build makes it")
    for guard in chosen:
        held = guard.held()
        if held:
            _insert(guard, held)
    return edited


def _copy(lowered: Any) -> jax.stages.Lowered:
    """With a module of its own: JAX keeps executables by the module's identity."""
    module, code = lowered.compiler_ir("stablehlo"), io.BytesIO()
    module.operation.write_bytecode(code)
    lowering = copy.copy(lowered._lowering)
    with module.context:
        lowering._hlo = ir.Module.parse(code.getvalue())
    lowering._executable = None
    edited = copy.copy(lowered)
    edited._lowering = lowering
    return edited


def _check_target(lowered: Any) -> None:
    # No public attribute tells what a program was lowered for.
    platforms = lowered._lowering._platforms
    if tuple(platforms) != ("cpu",):
        raise ValueError(
            f"the program is for {', '.join(platforms)}, whose scheduler keeps the order of "
            "jax.checkpoint: compile it as it is"
        )
    attributes = lowered.compiler_ir("stablehlo").operation.attributes
    for kind in ("mhlo.num_partitions", "mhlo.num_replicas"):
        count = attributes[kind].value if kind in attributes else 1
        if count > 1:
            raise ValueError(
                f"the program is for {count} devices, and a fence in it would gather what is "
                "sharded: use loomax.memory.schedule.remat in the source"
            )


def _match(guards: list[Guard], names: Sequence[str]) -> list[Guard]:
    if not names:
        raise ValueError("blocks is empty: name at least one, or '*' for all")
    if not guards:
        raise ValueError(
            "nothing in the program is recomputed behind a barrier: put jax.checkpoint around "
            "its layers, with prevent_cse=True"
        )
    chosen: dict[int, Guard] = {}
    for name in names:
        pattern = _pattern(name)
        found = {
            i: guard for i, guard in enumerate(guards) if any(map(pattern.search, guard.names))
        }
        if not found:
            raise ValueError(f"block {name!r} matches nothing: {_near(name, guards)}")
        chosen |= found
    return [chosen[i] for i in sorted(chosen)]


def _pattern(name: str) -> re.Pattern[str]:
    """A glob as an expression to search for, at whole words."""
    # translate() anchors the expression at its end, which a search must not.
    body = re.sub(r"\\[zZ]$", "", fnmatch.translate(name))
    return re.compile(rf"(?<!\w){body}(?!\w)")


def _near(name: str, guards: Sequence[Guard]) -> str:
    words = {word: None for guard in guards for text in guard.names for word in _scopes(text)}
    near = difflib.get_close_matches(name, words, SHOWN, 0.5)
    if near:
        return f"did you mean {', '.join(near)}?"
    every = list(dict.fromkeys(guard.name for guard in guards))
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return f"the blocks are {', '.join(every[:SHOWN])}{more}"


def _scopes(text: str) -> list[str]:
    """The scopes of a name stack, those that were differentiated both with and without that."""
    return [*text.split("/"), *re.findall(r"[\w.\-]+(?=\))", text)]


def _insert(guard: Guard, held: Sequence[int]) -> None:
    """A fence after the barrier: its results at `held` come out of it, for the others it waits."""
    results = list(guard.barrier.results)
    values = [results[i] for i in held]
    operands = [*values, *(value for i, value in enumerate(results) if i not in held)]
    with guard.barrier.context, guard.barrier.location:
        call = ir.Operation.create(
            "stablehlo.custom_call",
            results=[value.type for value in values],
            operands=operands,
            attributes=_attributes(len(values)),
            ip=ir.InsertionPoint.after(guard.barrier),
        )
    for value, new in zip(values, call.results, strict=True):
        value.replace_all_uses_except(new, call)


def _attributes(results: int) -> dict[str, ir.Attribute]:
    def alias(i: int) -> str:
        tuple_indices = i if results > 1 else ""
        return (
            f"#stablehlo.output_operand_alias<output_tuple_indices = [{tuple_indices}], "
            f"operand_index = {i}, operand_tuple_indices = []>"
        )

    texts = {
        "call_target_name": f'"{native.TARGET}"',
        "api_version": "4 : i32",
        "backend_config": "{}",
        "output_operand_aliases": f"[{', '.join(map(alias, range(results)))}]",
    }
    return {name: ir.Attribute.parse(text) for name, text in texts.items()}
