"""The prefix: images and instruction through the trunk, once per observation.

Shape letters: B batch, S prefix tokens, T text tokens, D trunk width, L layers, K key-value heads,
h head width, P state size, G grounding outputs.
"""

from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from loomax.memory.schedule.policy import remat_as
from loomax.models.attention import attend, block_mask, positions_of
from loomax.models.flow_vla.config import RESIDUALS, FlowVLAConfig
from loomax.models.flow_vla.model import FlowVLA
from loomax.models.flow_vla.stack import (
    finish_layer,
    layers_of,
    normalise,
    queries_keys_values,
)
from loomax.models.layers import gelu
from loomax.models.vision.keypoint import describe, keypoint_logits
from loomax.runtime.mesh import constrain


@struct.dataclass
@no_type_check  # its structure also holds shapes and shardings
class Prefix:
    """What the suffix needs of an observation; every leaf has the batch axis first or second.

    `out` is the trunk's normalised output; its last token is the read-out if there is one.
    """

    keys: Float[Array, "L B S K h"]
    values: Float[Array, "L B S K h"]
    mask: Bool[Array, "B S"]
    out: Float[Array, "B S D"]


def check_observation(config: FlowVLAConfig, obs: dict[str, Any]) -> None:
    """Refuses observations of another shape.

    Raises:
        ValueError: naming the part, its shape and the expected one.
    """
    batch = obs["tokens"].shape[0]
    expected = {"tokens": (batch, config.text_tokens), "token_mask": (batch, config.text_tokens)}
    if config.state_token or config.prefix_state:
        expected["state"] = (batch, config.state_dim)
    for name, shape in expected.items():
        if obs[name].shape != shape:
            raise ValueError(f"observation {name!r} has shape {obs[name].shape}, expected {shape}")
    for camera in config.cameras:
        if camera.name not in obs["images"]:
            raise ValueError(
                f"no image {camera.name!r} among {sorted(obs['images'])}; the model's cameras are "
                f"{[c.name for c in config.cameras]}"
            )
        shape, got = (batch, camera.size, camera.size, 3), obs["images"][camera.name].shape
        if got != shape:
            raise ValueError(f"image {camera.name!r} has shape {got}, expected {shape}")


def embed_prefix(
    model: FlowVLA, obs: dict[str, Any]
) -> tuple[Float[Array, "B S D"], Bool[Array, "B S"]]:
    """Prefix tokens before the trunk, and which of them are valid.

    Order: every camera's tokens, the state token, the text, the read-out.
    """
    c = model.config
    check_observation(c, obs)
    dtype, batch = jnp.dtype(c.dtype), obs["tokens"].shape[0]
    text = embed_text(model, obs["tokens"])
    tokens, masks = [], []

    def add(part: Array, valid: Array | None = None) -> None:
        tokens.append(part.astype(dtype))
        valid = jnp.ones((batch, 1), bool) if valid is None else valid
        masks.append(jnp.broadcast_to(valid, part.shape[:2]))

    said = instruction_summary(model, obs) if c.vision.kind == "keypoint" else None
    for camera in c.cameras:
        image = as_float(obs["images"][camera.name])
        valid = obs.get("image_mask", {}).get(camera.name)
        valid = None if valid is None else valid[:, None]
        if c.vision.kind == "siglip":
            add(model.vision(image, dtype, remat=c.remat), valid)
        else:
            add(model.vision[camera.name](image.astype(dtype), said), valid)
    if c.prefix_state:
        add(model.prefix_state_proj(obs["state"].astype(jnp.float32))[:, None])
    add(text, obs["token_mask"])
    if c.readout:
        add(jnp.broadcast_to(model.readout[...], (batch, 1, c.width)))
    return jnp.concatenate(tokens, axis=1), jnp.concatenate(masks, axis=1)


def as_float(image: Array) -> Array:
    """uint8 to float32 in [-1, 1]; floats must be in [-1, 1] already."""
    wide = image.astype(jnp.float32)
    return wide / 127.5 - 1 if image.dtype == jnp.uint8 else wide


def encode_prefix(model: FlowVLA, obs: dict[str, Any]) -> Prefix:
    """Runs the trunk over the prefix and keeps each layer's keys and values.

    Args:
        obs: {"images": {camera: [B, S, S, 3] uint8 or float in [-1, 1]}, "tokens": i32[B, T],
            "token_mask": bool[B, T], "state": f32[B, P] (where a token reads it)}, optional
            "image_mask": {camera: bool[B]}.

    Raises:
        ValueError: if a part of the observation has another shape than the config says.
    """
    x, valid = embed_prefix(model, obs)
    # One block: every valid prefix token sees every other.
    mask = block_mask(valid, jnp.zeros(x.shape[1], jnp.int32))
    positions, epsilon = positions_of(valid), model.config.norm_epsilon

    def layer(x, p):
        x = constrain(x, "batch", "length", None)
        q, k, v, gate = queries_keys_values(p, x, positions, None, epsilon)
        return finish_layer(p, x, attend(q, k, v, mask), gate, None, epsilon), (k, v)

    body = remat_as(model.config.remat, layer, RESIDUALS)
    x, (keys, values) = jax.lax.scan(body, x, layers_of(model.trunk), unroll=model.config.unroll)
    out, _ = normalise(layers_of(model.trunk_norm), x, None, epsilon)
    return Prefix(keys, values, valid, out)


def asked_logits(model: FlowVLA, obs: dict[str, Any]) -> dict[str, Float[Array, "B P C"]]:
    """Where the key points that the instruction asks for look, per camera (key-point stems only).

    Under `jit` beside `encode_prefix` the stems are computed once.
    """
    c = model.config
    dtype = jnp.dtype(c.dtype)
    said = instruction_summary(model, obs)
    found = {}
    for camera in c.cameras:
        stem = model.vision[camera.name]
        cells = describe(stem, as_float(obs["images"][camera.name]).astype(dtype))
        found[camera.name] = keypoint_logits(stem, cells, said)[:, camera.learned :]
    return found


def instruction_summary(model: FlowVLA, obs: dict[str, Any]) -> Float[Array, "B E"]:
    """What a key-point stem is told of the instruction; padding counts as zeros."""
    text = embed_text(model, obs["tokens"])
    kept = jnp.where(obs["token_mask"][..., None], text, 0)
    return gelu(model.summary(kept.reshape(text.shape[0], -1)))


def embed_text(model: FlowVLA, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    """Token embeddings, scaled as Gemma does."""
    dtype = jnp.dtype(model.config.dtype)
    scale = jnp.asarray(model.config.width**0.5, dtype)
    return model.embedding[...][tokens].astype(dtype) * scale


def ground(model: FlowVLA, prefix: Prefix) -> Float[Array, "B G"]:
    """The grounding head on the read-out, for example where the named object is."""
    return model.ground(prefix.out[:, -1])


def pool_prefix(prefix: Prefix) -> Float[Array, "B D"]:
    """Mean of the valid prefix outputs (what a prefix-side critic reads)."""
    weight = prefix.mask[..., None].astype(prefix.out.dtype)
    return (prefix.out * weight).sum(1) / jnp.maximum(weight.sum(1), 1)


def repeat_prefix(prefix: Prefix, times: int) -> Prefix:
    """`times` copies along the batch axis, copy-major: [times * B]."""
    if times == 1:
        return prefix
    return Prefix(
        keys=jnp.tile(prefix.keys, (1, times, 1, 1, 1)),
        values=jnp.tile(prefix.values, (1, times, 1, 1, 1)),
        mask=jnp.tile(prefix.mask, (times, 1)),
        out=jnp.tile(prefix.out, (times, 1, 1)),
    )
