"""What the TPU compiler says of YOCO-3B and its Transformer on one chip. Nothing here runs.

Rules for reading the compiler as an oracle are in `loomax.runtime.aot`. A decode step is compiled
whole, layers unrolled. A prefill of N tokens is a sum: one layer is compiled on CHUNK tokens and
counted N / CHUNK times for each layer; what a decoder-decoder does once, for the last token, is
added. The Transformer's attention is not compiled but given the chip's full compute and half the
square, which no kernel reaches.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from loomax.models.lm import LMConfig, decode, empty_cache, shapes, verify
from loomax.models.lm.kv import KV
from loomax.models.lm.mixers import attention
from loomax.models.lm.presets import transformer_3b, yoco_3b
from loomax.models.lm.span import Span, positions
from loomax.models.lm.stack import (
    cross_layers,
    empty_states,
    global_keys_values,
    hidden,
    normed,
    self_layers,
)
from loomax.runtime.aot import (
    COMPILER_FLOPS,
    GIB,
    CompileReport,
    estimate_options,
    report,
    topology_mesh,
)
from loomax.runtime.mesh import on_mesh

LENGTHS = {"32k": 2**15, "128k": 2**17, "512k": 2**19, "1m": 2**20}
CHUNK = 4096
SLICES = {"v5e": "v5e:2x2", "v6e": "v6e:2x2", "v5p": "v5p:2x2x1"}
# The words in which the compiler refuses a program.
_USED = re.compile(r"\(([\d.]+)([KMGT]?)\) exceeds available HBM|Used ([\d.]+)([KMGT]?) of")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def served(config: LMConfig) -> LMConfig:
    """As it would be served: bfloat16 parameters, caches updated in place."""
    return replace(config, param_dtype="bfloat16", unroll=True, chunk=512)


def models() -> dict[str, LMConfig]:
    """The two that are compared."""
    return {"yoco": served(yoco_3b()), "transformer": served(transformer_3b())}


@dataclass(frozen=True)
class Verdict:
    """Bytes that a program needs, whether they fit, and the compiler's report if they do."""

    bytes: float
    fits: bool
    report: CompileReport | None

    @property
    def seconds(self) -> float:
        return self.report.optimal_seconds if self.report else float("nan")


class Chip:
    """One chip of a generation, to compile for."""

    def __init__(self, generation: str):
        self.generation = generation
        first = topology_mesh(SLICES[generation]).devices.flat[0]
        self.mesh = Mesh([first], ("chip",), axis_types=(AxisType.Auto,))
        self.where = NamedSharding(self.mesh, PartitionSpec())

    def on(self, make: Callable[[], Any]) -> Any:
        """Shapes of what `make` returns, on this chip."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.where),
            jax.eval_shape(make),
        )

    def compile(self, function: Callable, *args: Any, donate: tuple[int, ...] = ()) -> Verdict:
        """The compiler's word on a function of abstract arguments."""
        options = estimate_options(self.generation)
        with on_mesh(self.mesh):
            lowered = jax.jit(function, donate_argnums=donate).lower(*args)
            try:
                found = report(lowered.compile(compiler_options=options))
            except jax.errors.JaxRuntimeError as error:
                used = _USED.search(str(error))
                if used is None:
                    raise
                size, unit = (used[1], used[2]) if used[1] else (used[3], used[4])
                return Verdict(float(size) * _UNITS[unit], False, None)
        return Verdict(found.peak_bytes, True, found)


def decode_step(chip: Chip, config: LMConfig, slots: int, drafts: int = 0) -> Verdict:
    """One token on a full cache of `slots` tokens; or `drafts` tokens checked at once."""
    params = _params(chip, config)
    cache = chip.on(lambda: empty_cache(config, 1, slots))
    if drafts:
        tokens = chip.on(lambda: jnp.zeros((1, drafts), jnp.int32))
        return chip.compile(lambda p, c, t: verify(config, p, c, t), params, cache, tokens)
    token = chip.on(lambda: jnp.zeros((1,), jnp.int32))
    return chip.compile(lambda p, c, t: decode(config, p, c, t), params, cache, token, donate=(1,))


def _params(chip: Chip, config: LMConfig, *without: str) -> Any:
    kept = {name: tree for name, tree in shapes(config).items() if name not in without}
    return chip.on(lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), kept))


def _span(chip: Chip) -> Span:
    return chip.on(lambda: Span(jnp.zeros((1,), jnp.int32), jnp.full((1,), CHUNK, jnp.int32)))


def _residual(chip: Chip, config: LMConfig, tokens: int = CHUNK) -> Any:
    return chip.on(lambda: jnp.zeros((1, tokens, config.width), jnp.bfloat16))


def self_layer(chip: Chip, config: LMConfig) -> Verdict:
    """One self layer of a decoder-decoder on a chunk, from a state."""
    one = replace(config, self_layers=1)
    params = _params(chip, one, "embedding", "head", "cross_layers", "shared_kv", "norm")
    states = chip.on(lambda: empty_states(one, 1, CHUNK))
    return chip.compile(
        lambda p, x, s, span: self_layers(one, p, x, s, span)[:2],
        params,
        _residual(chip, one),
        states,
        _span(chip),
    )


def shared_projection(chip: Chip, config: LMConfig) -> Verdict:
    """The one global KV's projection of a chunk."""
    params = {"shared_kv": _params(chip, config)["shared_kv"]}
    return chip.compile(
        lambda p, x, span: global_keys_values(config, p, x, span),
        params,
        _residual(chip, config),
        _span(chip),
    )


def cross_layer(chip: Chip, config: LMConfig, slots: int) -> Verdict:
    """One cross layer for the last token of a prompt of `slots` tokens."""
    one = replace(config, cross_layers=1)
    params = {"cross_layers": _params(chip, one)["cross_layers"]}
    store = chip.on(lambda: empty_cache(one, 1, slots).shared)

    def run(p, x, store: KV, span: Span):
        return cross_layers(one, p, x, store, span)

    span = chip.on(lambda: Span(jnp.full((1,), slots - 1, jnp.int32), jnp.ones((1,), jnp.int32)))
    return chip.compile(run, params, _residual(chip, one, 1), store, span)


def projections_layer(chip: Chip, config: LMConfig) -> Verdict:
    """One Transformer layer on a chunk without its attention."""
    one = replace(config, self_layers=1)
    params = _params(chip, one, "embedding", "head", "norm")

    def run(p, x, span: Span):
        layer = jax.tree.map(lambda leaf: leaf[0], p["self_layers"])
        y = normed(one, x, layer["mixer_norm"])
        q, k, v = attention.inputs(one, layer["mixer"], y, positions(span, CHUNK))
        return hidden(one, layer, x + attention.output(one, layer["mixer"], y, q)), k, v

    return chip.compile(run, params, _residual(chip, one), _span(chip))


def attention_seconds(generation: str, config: LMConfig, length: int) -> float:
    """Half of the square's two products at the compiler's peak, one layer."""
    return 2 * length**2 * config.heads * config.head_dim / COMPILER_FLOPS[generation]


def prefill_seconds(chip: Chip) -> dict[str, dict[str, float]]:
    """By length, the seconds of both models."""
    yoco, transformer = models().values()
    one_self, one_kv = self_layer(chip, yoco).seconds, shared_projection(chip, yoco).seconds
    one_plain = projections_layer(chip, transformer).seconds
    found = {}
    for name, length in LENGTHS.items():
        chunks = length / CHUNK
        ours = chunks * (yoco.self_layers * one_self + one_kv)
        ours += yoco.cross_layers * cross_layer(chip, yoco, length).seconds
        square = attention_seconds(chip.generation, transformer, length)
        theirs = transformer.self_layers * (chunks * one_plain + square)
        found[name] = {"yoco": ours, "transformer": theirs}
    return found


def gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"
