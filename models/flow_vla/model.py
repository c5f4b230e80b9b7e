"""Parameters of a flow-VLA policy. What they compute is in `prefix` and `suffix`."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Key

from loomax.models.flow_vla.config import CameraConfig, FlowVLAConfig
from loomax.models.flow_vla.stack import Norm, Stack, StackShape
from loomax.models.initialise import GraphDef, Parameters, Rngs, initialise, normal
from loomax.models.layers import MLP, Dense
from loomax.models.vision.keypoint import KeypointShape, KeypointStem
from loomax.models.vision.siglip import Siglip, SiglipShape

# The first names of paths that belong to the action expert; all else is the prefix.
EXPERT_PARTS = frozenset(
    {
        "expert",
        "expert_norm",
        "action_in_proj",
        "action_out_proj",
        "state_proj",
        "time_mlp_in",
        "time_mlp_out",
        "prefix_to_state",
    }
)


class FlowVLA(nnx.Module):
    """Vision, text and trunk (the prefix), and the action expert (the suffix)."""

    def __init__(self, config: FlowVLAConfig, rngs: Rngs):
        self.config = config
        self._init_prefix(rngs, jnp.dtype(config.prefix_param_dtype or config.param_dtype))
        self._init_suffix(rngs, jnp.dtype(config.param_dtype))

    def _init_prefix(self, rngs: Rngs, dtype: DTypeLike) -> None:
        c = self.config
        if c.vision.kind == "siglip":
            self.vision = Siglip(siglip_shape(c), rngs=rngs, dtype=dtype)
        else:
            self.vision = nnx.Dict(
                {k.name: KeypointStem(keypoint_shape(c, k), rngs=rngs) for k in c.cameras}
            )
            self.summary = Dense(c.text_tokens * c.width, c.vision.summary, rngs=rngs)
        self.embedding = nnx.Param(normal(rngs, (c.vocab, c.width), c.width**-0.5, dtype))
        self.trunk = Stack(stack_shape(c, c.width, c.mlp), rngs=rngs, dtype=dtype)
        self.trunk_norm = Norm((), c.width, 0, dtype)
        if c.prefix_state:
            self.prefix_state_proj = Dense(c.state_dim, c.width, rngs=rngs, dtype=dtype)
        if c.readout:
            self.readout = nnx.Param(normal(rngs, (c.width,), 1.0, dtype))
        if c.ground:
            self.ground = MLP((c.width, c.width, c.ground), rngs=rngs)

    def _init_suffix(self, rngs: Rngs, dtype: DTypeLike) -> None:
        c, w = self.config, self.config.expert_width

        def dense(inputs: int, outputs: int) -> Dense:
            return Dense(inputs, outputs, rngs=rngs, dtype=dtype)

        cond = w if c.time == "adarms" else 0
        self.expert = Stack(stack_shape(c, w, c.expert_mlp, cond), rngs=rngs, dtype=dtype)
        self.expert_norm = Norm((), w, cond, dtype)
        self.action_in_proj = dense(c.action_dim, w)
        self.action_out_proj = dense(w, c.action_dim)
        self.time_mlp_in = dense(w if cond else 2 * w, w)
        self.time_mlp_out = dense(w, w)
        if c.state_token:
            self.state_proj = dense(c.state_dim, w)
        if c.state_from_prefix:
            self.prefix_to_state = dense(c.width + c.ground, w)


def stack_shape(c: FlowVLAConfig, width: int, mlp: int, cond: int = 0) -> StackShape:
    return StackShape(c.depth, width, mlp, c.heads, c.kv_heads, c.head_dim, cond)


def siglip_shape(c: FlowVLAConfig) -> SiglipShape:
    """The tower for all cameras.

    Raises:
        ValueError: if the cameras' sizes differ, since one tower serves all.
    """
    v, sizes = c.vision, {camera.size for camera in c.cameras}
    if len(sizes) != 1:
        raise ValueError(f"a SigLIP tower needs one image size, not {sorted(sizes)}")
    return SiglipShape(sizes.pop(), v.patch, v.width, v.depth, v.mlp, v.heads, c.width)


def keypoint_shape(c: FlowVLAConfig, camera: CameraConfig) -> KeypointShape:
    v = c.vision
    return KeypointShape(
        camera.size, v.stride, v.features, camera.learned, camera.asked, c.width, v.summary
    )


def create(config: FlowVLAConfig, *, key: Key[Array, ""]) -> tuple[GraphDef, Parameters]:
    """Graph definition and freshly drawn parameters, in one compiled program."""
    return initialise(lambda rngs: FlowVLA(config, rngs), key=key)


def is_action_expert(path: tuple, value: object = None) -> bool:
    """Whether a parameter path belongs to the action expert (an nnx filter)."""
    return path[0] in EXPERT_PARTS
