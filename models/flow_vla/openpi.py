"""openpi's parameter names: reading its checkpoints into a `FlowVLA`.

openpi's tree is flat here: "PaliGemma/llm/layers/attn/q_einsum/w" and so on, as in its Orbax
checkpoints without the leading "params" and the trailing "value". PaliGemma's own npz files call
the same "params/llm/..." and "params/img/...", and have no action expert. Shapes are the same on
all sides, so loading is a change of names.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from loomax.models.flow_vla.config import FlowVLAConfig
from loomax.models.flow_vla.model import FlowVLA
from loomax.models.initialise import Parameters

Path = tuple[str, ...]

_ATTENTION = "PaliGemma/img/Transformer/encoderblock/MultiHeadDotProductAttention_0"
_BLOCK = "PaliGemma/img/Transformer/encoderblock"


def _both(name: str, path: Path, *leaves: str) -> dict[str, Path]:
    return {f"{name}/{leaf}": (*path, leaf) for leaf in leaves}


def _image_paths() -> dict[str, Path]:
    names: dict[str, Path] = {"PaliGemma/img/pos_embedding": ("vision", "pos_embedding")}
    dense, norm = ("kernel", "bias"), ("scale", "bias")
    names |= _both("PaliGemma/img/embedding", ("vision", "embedding"), *dense)
    names |= _both("PaliGemma/img/head", ("vision", "head"), *dense)
    names |= _both("PaliGemma/img/Transformer/encoder_norm", ("vision", "norm"), *norm)
    for part in ("query", "key", "value", "out"):
        names |= _both(f"{_ATTENTION}/{part}", ("vision", "blocks", part), *dense)
    for i in (0, 1):
        names |= _both(f"{_BLOCK}/LayerNorm_{i}", ("vision", "blocks", f"norm_{i}"), *norm)
        names |= _both(f"{_BLOCK}/MlpBlock_0/Dense_{i}", ("vision", "blocks", f"dense_{i}"), *dense)
    return names


def _decoder_paths(part: str, suffix: str, adaptive: bool) -> dict[str, Path]:
    llm = "PaliGemma/llm"
    names: dict[str, Path] = {
        f"{llm}/layers/attn/q_einsum{suffix}/w": (part, "q"),
        f"{llm}/layers/attn/kv_einsum{suffix}/w": (part, "kv"),
        f"{llm}/layers/attn/attn_vec_einsum{suffix}/w": (part, "out"),
        f"{llm}/layers/mlp{suffix}/gating_einsum": (part, "gating"),
        f"{llm}/layers/mlp{suffix}/linear": (part, "linear"),
    }
    norms = {f"{llm}/final_norm{suffix}": (f"{part}_norm",)}
    for norm in ("pre_attention_norm", "pre_ffw_norm"):
        norms[f"{llm}/layers/{norm}{suffix}"] = (part, norm)
    for name, path in norms.items():
        if adaptive:
            names |= _both(f"{name}/Dense_0", path, "kernel", "bias")
        else:
            names |= _both(name, path, "scale")
    return names


def openpi_path_map(config: FlowVLAConfig) -> dict[str, Path]:
    """openpi's flat name of every parameter -> its path in `FlowVLA`.

    Raises:
        ValueError: if the config has parts that openpi's models lack.
    """
    extra = config.prefix_state or config.readout or config.state_from_prefix
    if config.vision.kind != "siglip" or extra:
        raise ValueError("openpi's models have a SigLIP tower and no read-out or prefix state")
    adaptive = config.time == "adarms"
    names = {"PaliGemma/llm/embedder/input_embedding": ("embedding",)}
    names |= _image_paths()
    names |= _decoder_paths("trunk", "", False)
    names |= _decoder_paths("expert", "_1", adaptive)
    time = "time_mlp" if adaptive else "action_time_mlp"
    tops = {"action_in_proj": "action_in_proj", "action_out_proj": "action_out_proj"}
    tops |= {f"{time}_in": "time_mlp_in", f"{time}_out": "time_mlp_out"}
    if config.state_token:
        tops["state_proj"] = "state_proj"
    for name, ours in tops.items():
        names |= _both(name, (ours,), "kernel", "bias")
    return names


def _strip(name: str) -> str:
    plain = name.removeprefix("params/").removesuffix("/value")
    return f"PaliGemma/{plain}" if plain.startswith(("llm/", "img/")) else plain


def from_openpi(config: FlowVLAConfig, flat: Mapping[str, Array]) -> Parameters:
    """Parameters of a `FlowVLA` from openpi's flat names.

    Args:
        flat: name -> array; a leading "params/" and a trailing "/value" are ignored, and
            PaliGemma's own names understood.

    Raises:
        ValueError: listing names that are missing or unknown, or shapes that differ.
    """
    given = {_strip(name): array for name, array in flat.items()}
    names = openpi_path_map(config)
    missing, unknown = sorted(names.keys() - given.keys()), sorted(given.keys() - names.keys())
    if missing or unknown:
        raise ValueError(f"not this architecture: missing {missing[:5]}, unknown {unknown[:5]}")
    shapes = nnx.eval_shape(lambda: FlowVLA(config, nnx.Rngs(0)))
    state = nnx.to_flat_state(nnx.state(shapes, nnx.Param))
    by_path, leaves = {path: name for name, path in names.items()}, []
    for path, leaf in state:
        name = by_path[path]
        if given[name].shape != leaf.shape:
            raise ValueError(
                f"{name} has shape {given[name].shape}, expected {leaf.shape} ({path})"
            )
        leaves.append((path, leaf.replace(jnp.asarray(given[name], leaf.dtype))))
    return nnx.from_flat_state(leaves)


def to_openpi(config: FlowVLAConfig, state: Parameters) -> dict[str, Array]:
    """The same parameters under openpi's names."""
    flat = dict(nnx.to_flat_state(state))
    return {name: flat[path][...] for name, path in openpi_path_map(config).items()}
