"""Parameters of language models. What they compute is in `forward` and `generate`.

Shape letters: L layers of a stack, D width, F hidden width, V vocabulary.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Key, PyTree

from loomax.models.initialise import Rngs, initialise, normal
from loomax.models.lm.config import FULL_ATTENTION, LMConfig
from loomax.models.lm.mixers import MIXERS
from loomax.models.lm.mixers.base import matrices


class Hidden(nnx.Module):
    """SwiGLU of every layer: gate and up [L, D, F], down [L, F, D]."""

    def __init__(self, config: LMConfig, layers: int, rngs: Rngs):
        make = matrices(config, rngs, layers)
        self.gate = make(config.width, config.mlp)
        self.up = make(config.width, config.mlp)
        self.down = make(config.mlp, config.width, 0.5 / config.layers)


class CrossAttention(nnx.Module):
    """Queries and output of every cross layer; keys and values are the one global KV's."""

    def __init__(self, config: LMConfig, rngs: Rngs):
        make, inner = matrices(config, rngs, config.cross_layers), config.heads * config.head_dim
        self.q = make(config.width, inner)
        self.out = make(inner, config.width, 0.5 / config.layers)


class Stack(nnx.Module):
    """Layers of one kind: mixer and SwiGLU, each behind an RMSNorm."""

    def __init__(self, config: LMConfig, layers: int, mixer: nnx.Module, rngs: Rngs):
        dtype = jnp.dtype(config.param_dtype)
        self.mixer_norm = nnx.Param(jnp.ones((layers, config.width), dtype))
        self.mixer = mixer
        self.hidden_norm = nnx.Param(jnp.ones((layers, config.width), dtype))
        self.hidden = Hidden(config, layers, rngs)


class SharedKV(nnx.Module):
    """The projection of the self-decoder's output to the one global KV."""

    def __init__(self, config: LMConfig, rngs: Rngs):
        dtype, width = jnp.dtype(config.param_dtype), config.width
        inner = config.kv_heads * config.head_dim
        self.norm = nnx.Param(jnp.ones((width,), dtype))
        self.k = nnx.Param(normal(rngs, (width, inner), width**-0.5, dtype))
        self.v = nnx.Param(normal(rngs, (width, inner), width**-0.5, dtype))


class LanguageModel(nnx.Module):
    """Embedding, layers, final norm and output projection; see `YOCO` and `Transformer`."""

    def __init__(self, config: LMConfig, rngs: Rngs):
        self.config = config
        dtype = jnp.dtype(config.param_dtype)
        shape, std = (config.vocab, config.width), config.width**-0.5
        # Scaled by sqrt(D) where it is looked up, so that tokens start with unit variance.
        self.embedding = nnx.Param(normal(rngs, shape, std, dtype))
        mixer = MIXERS[config.mixer].module(config, rngs)
        self.self_layers = Stack(config, config.self_layers, mixer, rngs)
        if config.kv_residual:
            self.kv_share = nnx.Param(jnp.zeros((config.self_layers, 2), dtype))
        if config.decoder_decoder:
            self.shared_kv = SharedKV(config, rngs)
            cross = CrossAttention(config, rngs)
            self.cross_layers = Stack(config, config.cross_layers, cross, rngs)
        self.norm = nnx.Param(jnp.ones((config.width,), dtype))
        if not config.tied:
            self.head = nnx.Param(normal(rngs, shape[::-1], std, dtype))


class YOCO(LanguageModel):
    """A decoder-decoder: one global KV for all cross layers (arXiv 2405.05254).

    Raises:
        ValueError: the configuration has no cross layers.
    """

    def __init__(self, config: LMConfig, rngs: Rngs):
        if not config.decoder_decoder:
            raise ValueError("cross_layers is 0: a YOCO needs at least 1; or build a Transformer")
        super().__init__(config, rngs)


class Transformer(LanguageModel):
    """A decoder with full attention in every layer.

    Raises:
        ValueError: the configuration has cross layers or a mixer without full attention.
    """

    def __init__(self, config: LMConfig, rngs: Rngs):
        if config.decoder_decoder or config.mixer not in FULL_ATTENTION:
            raise ValueError(
                f"mixer {config.mixer!r} with {config.cross_layers} cross layers is no "
                f"Transformer; use {' or '.join(FULL_ATTENTION)} and 0, or build a YOCO"
            )
        super().__init__(config, rngs)


def module_for(config: LMConfig) -> type[LanguageModel]:
    """`YOCO`, `Transformer`, or the general class for a stack of recurrent layers alone."""
    if config.decoder_decoder:
        return YOCO
    return Transformer if config.mixer in FULL_ATTENTION else LanguageModel


def parameters(model: LanguageModel) -> PyTree:
    """The model's arrays as nested dictionaries: what the functions on models take."""
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def create(config: LMConfig, *, key: Key[jax.Array, ""]) -> PyTree:
    """Freshly drawn parameters, in one compiled program."""
    kind = module_for(config)
    _, state = initialise(lambda rngs: kind(config, rngs), key=key)
    return nnx.to_pure_dict(state)


def shapes(config: LMConfig) -> PyTree:
    """Parameters as jax.ShapeDtypeStruct, without allocating them."""
    return jax.eval_shape(lambda: create(config, key=jax.random.key(0)))


def count(params: PyTree, *, embedding: bool = True) -> int:
    """Number of parameters, with or without the embedding and the output projection."""
    left_out = () if embedding else ("embedding", "head")
    kept = {name: tree for name, tree in params.items() if name not in left_out}
    return sum(int(x.size) for x in jax.tree.leaves(kept))
