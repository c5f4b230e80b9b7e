"""Sizes and choices of language models. Imports no JAX.

One configuration describes both shapes. A decoder-decoder (YOCO, arXiv 2405.05254) has
`self_layers` of a mixer with a small state, then `cross_layers` that all read one global KV. A
Transformer has self layers with full attention (`attention` or `mla`) and no cross layers.
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

from loomax.memory.schedule.words import check_policy

Mixer = Literal["gated_retention", "sliding_window", "gated_deltanet", "attention", "mla"]
Dtype = Literal["float32", "bfloat16"]
Scaling = Literal["none", "pi", "ntk", "yarn", "longrope"]
Ramp = Literal["index", "rotations"]
FULL_ATTENTION = ("attention", "mla")
# Values of a layer that `remat` can keep by name: what a mixer projects, its heads before they are
# joined, and what opens in the MLP.
RESIDUALS = ("qkv", "attn_out", "mlp_hidden")
# DeepSeek-V2 keeps Llama 1's epsilon; YOCO, Gated DeltaNet and Llama 2 and 3 have a larger one.
EPSILONS = {"mla": 1e-6}


@dataclass(frozen=True)
class RopeConfig:
    """Rotary positions.

    Args:
        theta: base of the wavelengths; 0 switches rotation off (NoPE).
        spacing: "standard" has exponents 2i/H; "yoco" spreads them evenly over [0, 1], end
            included, as YOCO's published code does.
        scaling: how a model trained at `original` positions is used at `factor` times as many:
            "pi" (arXiv 2306.15595), "ntk" (bloc97, 2023), "yarn" (arXiv 2309.00071), "longrope"
            (arXiv 2402.13753, with `rescale` per frequency).
        beta_fast, beta_slow: rotations at the original length above which YaRN leaves a frequency
            alone and below which it interpolates it fully.
        ramp: what YaRN's share of interpolation between those two rises with. "index", the number
            of the pair, is the authors' code and every released model; "rotations" is the paper's
            formula (section 3.2).
        truncate: the ramp over pairs begins and ends at whole numbers, as in all released models
            but gpt-oss.
        rescale: LongRoPE's divisor of each of the H / 2 frequencies.
    """

    theta: float = 10_000.0
    spacing: Literal["standard", "yoco"] = "standard"
    scaling: Scaling = "none"
    factor: float = 1.0
    original: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    ramp: Ramp = field(default="index", metadata={"absent": "rotations"})
    truncate: bool = True
    rescale: tuple[float, ...] = ()

    def __post_init__(self):
        if self.theta < 0:
            raise ValueError(f"rope.theta is {self.theta}; give a positive base, or 0 for none")
        if self.factor < 1:
            raise ValueError(f"rope.factor is {self.factor}; it must be at least 1")
        for name, kinds in (("scaling", Scaling), ("ramp", Ramp)):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(
                    f"rope.{name} is {getattr(self, name)!r}; use one of "
                    f"{', '.join(get_args(kinds))}"
                )
        if not 0 < self.beta_slow < self.beta_fast:
            raise ValueError(
                f"rope.beta_slow is {self.beta_slow} and rope.beta_fast {self.beta_fast}; they "
                "must be above 0, and the fast one the larger"
            )
        if self.scaling == "longrope" and not self.rescale:
            raise ValueError("rope.scaling='longrope' needs rope.rescale, one divisor a frequency")


@dataclass(frozen=True)
class MLAConfig:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).

    Args:
        latent: width of the cached latent; rope: width of the cached rotary key.
        nope: width of a head's query and key without positions; value: width of a head's value.
    """

    latent: int = 512
    rope: int = 64
    nope: int = 128
    value: int = 128


@dataclass(frozen=True)
class DeltaConfig:
    """What Gated DeltaNet (arXiv 2412.06464) has in some of its versions.

    Args:
        value_factor: a head's value is so many times as wide as its key; the published models
            have 2.
        output_norm: the norm of each head's output has a learned scale, as in the published code.
        negative: beta lies in (0, 2) instead of (0, 1), so that a token's transition may have the
            eigenvalue 1 - beta below zero (arXiv 2411.12537).
    """

    value_factor: float = 1.0
    output_norm: bool = False
    negative: bool = False


@dataclass(frozen=True)
class LMConfig:
    """A language model.

    Args:
        heads, kv_heads, head_dim: of full attention and of the cross layers.
        mixer_heads, mixer_head_dim: of the self layers' mixer, where it is not full attention.
        tau: gated retention's temperature: decay = sigmoid(.)^(1 / tau).
        window: tokens that a sliding-window layer sees, itself included.
        chunk: tokens that a recurrent mixer treats as one block.
        conv: width of the short convolutions of gated DeltaNet.
        loops: passes through the self layers with the same parameters (YOCO-U, arXiv 2604.01220).
        kv_residual: every self layer adds a learned share of the first layer's keys and values to
            its own (YOCO++, arXiv 2604.13556).
        cross_rope: rotate the queries and keys of the cross layers.
        kv_bits: 8 stores cached keys and values of full attention as int8 with a scale per token
            and head.
        norm_epsilon: added to the mean square in every RMSNorm; None is the original's: 1e-6 for
            `mla` (DeepSeek-V2), 1e-5 for all others (YOCO, Gated DeltaNet, Llama 2 and 3).
        tied: the output projection is the embedding.
        dtype, param_dtype: of the computation and of the parameters; norms, softmax, decays and
            states are float32.
        remat: what of each layer is recomputed in the backward pass: "none", "full", "dots",
            "keep:N", or "names:" or "offload:" and some of RESIDUALS, as
            `loomax.memory.schedule.policy` says.
        unroll: unroll the layers instead of scanning them; caches are then updated in place.
    """

    vocab: int
    width: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int
    self_layers: int
    cross_layers: int = 0
    mixer: Mixer = "gated_retention"
    mixer_heads: int = 0
    mixer_head_dim: int = 0
    tau: float = 16.0
    window: int = 1024
    chunk: int = 256
    conv: int = 4
    loops: int = 1
    kv_residual: bool = False
    cross_rope: bool = True
    kv_bits: Literal[8, 16] = 16
    rope: RopeConfig = field(default_factory=RopeConfig)
    mla: MLAConfig = field(default_factory=MLAConfig)
    delta: DeltaConfig = field(default_factory=DeltaConfig)
    norm_epsilon: float | None = field(default=None, metadata={"absent": 1e-6})
    tied: bool = False
    dtype: Dtype = "float32"
    param_dtype: Dtype = "float32"
    remat: str = "none"
    unroll: bool = False

    def __post_init__(self):
        if self.mixer not in get_args(Mixer):
            raise ValueError(f"unknown mixer {self.mixer!r}: choose from {', '.join(known())}")
        for name in ("vocab", "width", "mlp", "heads", "kv_heads", "self_layers", "loops"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads {self.kv_heads} does not divide heads {self.heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} must be even for rotary positions")
        if self.mixer not in FULL_ATTENTION:
            self._check_mixer()
        if self.norm_epsilon is not None and not 0 < self.norm_epsilon < 1:
            raise ValueError(
                f"norm_epsilon is {self.norm_epsilon}; it must lie between 0 and 1 (1e-5 or 1e-6)"
            )
        if self.kv_residual and self.mixer in ("mla", "gated_deltanet"):
            raise ValueError(
                f"kv_residual adds keys and values, and {self.mixer} has none of its own by token; "
                "use another mixer"
            )
        if self.kv_bits not in (8, 16):
            raise ValueError(f"kv_bits is {self.kv_bits}; use 8 or 16")
        check_policy(self.remat, RESIDUALS)

    def _check_mixer(self) -> None:
        if self.mixer_heads < 1 or self.mixer_head_dim < 1:
            raise ValueError(
                f"mixer {self.mixer!r} needs mixer_heads and mixer_head_dim of at least 1, not "
                f"{self.mixer_heads} and {self.mixer_head_dim}"
            )
        if self.mixer_head_dim % 2:
            raise ValueError(f"mixer_head_dim {self.mixer_head_dim} must be even")
        for name in ("window", "chunk", "conv"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.delta.value_factor < 2**31:
            raise ValueError(
                f"delta.value_factor is {self.delta.value_factor}: give a finite number above 0"
            )
        width = self.delta.value_factor * self.mixer_head_dim
        if width < 1 or width != self.value_width:
            raise ValueError(
                f"delta.value_factor {self.delta.value_factor} times mixer_head_dim "
                f"{self.mixer_head_dim} must be a whole number of at least 1"
            )

    @property
    def epsilon(self) -> float:
        """Of every RMSNorm."""
        original = EPSILONS.get(self.mixer, 1e-5)
        return original if self.norm_epsilon is None else self.norm_epsilon

    @property
    def value_width(self) -> int:
        """Width of a head's value in Gated DeltaNet."""
        return round(self.delta.value_factor * self.mixer_head_dim)

    @property
    def layers(self) -> int:
        """Layers with parameters of their own."""
        return self.self_layers + self.cross_layers

    @property
    def decoder_decoder(self) -> bool:
        """Whether there is one global KV with layers that read it."""
        return self.cross_layers > 0


def known() -> tuple[str, ...]:
    """Names of all mixers."""
    return get_args(Mixer)
