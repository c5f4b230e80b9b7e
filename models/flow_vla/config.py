"""Sizes of flow-VLA policies and the named presets. Imports no JAX.

`pi0` and `pi05` have openpi's sizes (3,238,048,528 and 3,353,433,872 parameters); `tiny` runs on
two CPU cores; `debug` only proves that everything fits together.
"""

from dataclasses import dataclass, field
from typing import Literal

from loomax.memory.schedule.words import check_policy

# Values of a layer that `remat` can keep by name: queries, keys and values, the heads before they
# are joined, and what opens in the MLP.
RESIDUALS = ("qkv", "attn_out", "mlp_hidden")


@dataclass(frozen=True)
class CameraConfig:
    """One image of the observation: its name and side in pixels.

    `learned` and `asked` count the key points of a key-point stem: those with learned queries
    and those whose queries come from the instruction. A SigLIP tower ignores both.
    """

    name: str
    size: int
    learned: int = 8
    asked: int = 4


@dataclass(frozen=True)
class VisionConfig:
    """A SigLIP tower shared by all cameras, or one key-point stem per camera.

    Args:
        stride: cell side of a key-point stem in pixels.
        features: width of a cell's description.
        summary: width of the instruction's summary that asks for key points.
        patch, width, depth, mlp, heads: the SigLIP tower.
    """

    kind: Literal["siglip", "keypoint"] = "siglip"
    patch: int = 14
    width: int = 1152
    depth: int = 27
    mlp: int = 4304
    heads: int = 16
    stride: int = 4
    features: int = 64
    summary: int = 64


def _openpi_cameras() -> tuple[CameraConfig, ...]:
    names = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
    return tuple(CameraConfig(name, 224) for name in names)


@dataclass(frozen=True)
class FlowVLAConfig:
    """A prefix trunk (images, text) and an action expert of equal depth with joint attention.

    Args:
        width, mlp: the prefix trunk; expert_width, expert_mlp: the action expert.
        depth, heads, kv_heads, head_dim: shared by both, since they attend jointly.
        time: "concat" mixes the time into the action tokens (pi0); "adarms" modulates every norm
            of the expert (pi0.5).
        state_dim: numbers of the state that the model has room for; 0 is a policy without one.
        state_token: a token for the proprioceptive state before the actions (pi0).
        discrete_state: the state stands in the text as numbers of bins instead (pi0.5, see
            `prompt`).
        prefix_state: also a state token in the prefix, so grounding may refer to the gripper.
        readout: a learned last prefix token that gathers what the instruction asks for.
        ground: outputs of the grounding head on the read-out (0: no head).
        state_from_prefix: the state token also receives the final read-out and the grounding.
            The keys and values of layer l are taken before layer l mixes tokens, so a shallow
            prefix would otherwise show little of what it found.
        norm_epsilon: added to the mean square in every RMSNorm; Gemma's.
        dtype: of the computation; norms, softmax and RoPE stay in float32.
        param_dtype, prefix_param_dtype: of the parameters, and of the prefix's where that differs
            (a frozen prefix needs no float32).
        remat: what of each layer is recomputed in the backward pass: "none", "full", "dots",
            "keep:N", or "names:" or "offload:" and some of RESIDUALS, as
            `loomax.memory.schedule.policy` says.
        unroll: unroll the scan over layers; a third faster on CPUs, slower to compile.
    """

    vision: VisionConfig = field(default_factory=VisionConfig)
    cameras: tuple[CameraConfig, ...] = field(default_factory=_openpi_cameras)
    vocab: int = 257_152
    text_tokens: int = 48
    width: int = 2048
    mlp: int = 16_384
    expert_width: int = 1024
    expert_mlp: int = 4096
    depth: int = 18
    heads: int = 8
    kv_heads: int = 1
    head_dim: int = 256
    action_dim: int = 32
    horizon: int = 50
    state_dim: int = 32
    time: Literal["concat", "adarms"] = "concat"
    state_token: bool = True
    discrete_state: bool = False
    prefix_state: bool = False
    readout: bool = False
    ground: int = 0
    state_from_prefix: bool = False
    norm_epsilon: float = 1e-6
    dtype: Literal["float32", "bfloat16"] = "float32"
    param_dtype: Literal["float32", "bfloat16"] = "float32"
    prefix_param_dtype: Literal["float32", "bfloat16"] | None = None
    remat: str = "none"
    unroll: bool = False

    def __post_init__(self):
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads {self.kv_heads} does not divide heads {self.heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} must be even for rotary positions")
        if self.expert_width % 2:
            raise ValueError(f"expert_width {self.expert_width} must be even (time embedding)")
        if self.ground and not self.readout:
            raise ValueError(f"ground={self.ground} reads the read-out token; set readout=True")
        if self.state_from_prefix and not (self.readout and self.state_token):
            raise ValueError("state_from_prefix needs readout=True and state_token=True")
        self._check_state()
        if not 0 < self.norm_epsilon < 1:
            raise ValueError(
                f"norm_epsilon is {self.norm_epsilon}; it must lie between 0 and 1 (Gemma's 1e-6)"
            )
        if len({c.name for c in self.cameras}) != len(self.cameras):
            raise ValueError(f"camera names must differ: {[c.name for c in self.cameras]}")
        check_policy(self.remat, RESIDUALS)

    def _check_state(self) -> None:
        """A state that the model claims to take must reach its output."""
        ways = {
            name: getattr(self, name) for name in ("state_token", "prefix_state", "discrete_state")
        }
        if self.state_dim and not any(ways.values()):
            raise ValueError(
                f"state_dim is {self.state_dim}, but nothing reads the state: set one of "
                f"{', '.join(ways)}, or state_dim=0 for a policy without a state"
            )
        if not self.state_dim and any(ways.values()):
            used = next(name for name, on in ways.items() if on)
            raise ValueError(f"{used} needs a state, and state_dim is 0; give its size")
        if self.discrete_state and self.state_token:
            raise ValueError(
                "discrete_state writes the state into the text in place of the state token; use "
                "state_token=False with it"
            )


def tiny() -> FlowVLAConfig:
    """About one million parameters, for two CPU cores: one scene and one wrist camera."""
    return FlowVLAConfig(
        vision=VisionConfig(kind="keypoint"),
        cameras=(CameraConfig("scene", 64, 8, 4), CameraConfig("wrist", 32, 4, 2)),
        vocab=1024,
        text_tokens=8,
        width=128,
        mlp=256,
        expert_width=128,
        expert_mlp=256,
        depth=3,
        heads=4,
        kv_heads=1,
        head_dim=32,
        action_dim=7,
        horizon=5,
        state_dim=8,
        prefix_state=True,
        readout=True,
        ground=6,
        state_from_prefix=True,
        unroll=True,
    )


def debug() -> FlowVLAConfig:
    """Everything that `tiny` has, as small as it goes."""
    return FlowVLAConfig(
        vision=VisionConfig(kind="keypoint", stride=4, features=8),
        cameras=(CameraConfig("scene", 16, 2, 1), CameraConfig("wrist", 8, 1, 0)),
        vocab=1024,
        text_tokens=8,
        width=16,
        mlp=24,
        expert_width=16,
        expert_mlp=24,
        depth=2,
        heads=2,
        kv_heads=1,
        head_dim=8,
        action_dim=7,
        horizon=4,
        state_dim=8,
        prefix_state=True,
        readout=True,
        ground=6,
        state_from_prefix=True,
    )


def pi0() -> FlowVLAConfig:
    """pi0 (Black et al. 2024) with openpi's sizes."""
    return FlowVLAConfig()


def pi05() -> FlowVLAConfig:
    """pi0.5 (Physical Intelligence 2025): adaRMS time conditioning, the state in the text."""
    return FlowVLAConfig(time="adarms", state_token=False, discrete_state=True, text_tokens=200)


presets = {"tiny": tiny, "debug": debug, "pi0": pi0, "pi05": pi05}
