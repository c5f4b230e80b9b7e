"""Named sizes: those of the YOCO paper with a matched Transformer for each, and tiny ones.

Every entry is a function, so that importing this builds nothing. Imports no JAX.
"""

from collections.abc import Callable
from dataclasses import replace

from loomax.models.lm.config import LMConfig, Mixer, RopeConfig

# Section 4.4 and appendix: width, layers, heads. The vocabulary is cl100k_base, padded.
SCALING = {
    "160m": (768, 12, 12),
    "400m": (1024, 24, 16),
    "830m": (1536, 24, 12),
    "1.4b": (2048, 24, 16),
    "2.7b": (2560, 32, 20),
    "6.8b": (4096, 32, 32),
    "13b": (5120, 40, 40),
}
VOCAB = 100_288


def yoco_3b(mixer: Mixer = "gated_retention") -> LMConfig:
    """YOCO-3B (table 1 and section 4.1): 2.83 billion parameters besides the embeddings."""
    return LMConfig(
        vocab=VOCAB,
        width=3072,
        mlp=8192,
        heads=24,
        kv_heads=8,
        head_dim=128,
        self_layers=13,
        cross_layers=13,
        mixer=mixer,
        mixer_heads=24,
        mixer_head_dim=128,
        rope=RopeConfig(spacing="yoco"),
        dtype="bfloat16",
    )


def transformer_3b() -> LMConfig:
    """A Llama-like model of 26 layers; a wider SwiGLU makes it as large as `yoco_3b`."""
    return LMConfig(
        vocab=VOCAB,
        width=3072,
        mlp=9088,
        heads=24,
        kv_heads=8,
        head_dim=128,
        self_layers=26,
        mixer="attention",
        dtype="bfloat16",
    )


def scaling_yoco(size: str, mixer: Mixer = "gated_retention") -> LMConfig:
    """A model of the scaling runs: retention heads of 256 numbers, SwiGLU of 3 widths."""
    width, layers, heads = SCALING[size]
    return LMConfig(
        vocab=VOCAB,
        width=width,
        mlp=3 * width,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        self_layers=layers // 2,
        cross_layers=layers // 2,
        mixer=mixer,
        mixer_heads=width // 256,
        mixer_head_dim=256,
        tied=size == "160m",
        rope=RopeConfig(spacing="yoco"),
        dtype="bfloat16",
    )


def scaling_transformer(size: str) -> LMConfig:
    """A Llama-like model with full heads, as large as `scaling_yoco`.

    (The paper's own has a SwiGLU of 8/3 widths, which is 3 to 5 % smaller.)
    """
    width, layers, heads = SCALING[size]
    # A self layer has 14 width^2, a cross layer 11, the global KV 2; attention takes 4 of ours.
    matched = (8.5 + 2 / layers) * width / 3
    return LMConfig(
        vocab=VOCAB,
        width=width,
        mlp=round(matched / 32) * 32,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        self_layers=layers,
        mixer="attention",
        tied=size == "160m",
        dtype="bfloat16",
    )


def yoco_tiny(mixer: Mixer = "gated_retention") -> LMConfig:
    """About 1.9 million parameters with the embedded tokenizer, for two CPU cores."""
    return LMConfig(
        vocab=1024,
        width=128,
        mlp=384,
        heads=4,
        kv_heads=2,
        head_dim=32,
        self_layers=4,
        cross_layers=4,
        mixer=mixer,
        mixer_heads=4,
        mixer_head_dim=32,
        window=128,
        chunk=64,
    )


def yoco_small(mixer: Mixer = "gated_retention") -> LMConfig:
    """341,120 parameters with the embedded tokenizer, for runs of minutes."""
    return replace(
        yoco_tiny(mixer),
        width=64,
        mlp=192,
        head_dim=16,
        self_layers=2,
        cross_layers=2,
        mixer_head_dim=16,
        window=32,
    )


def transformer_tiny() -> LMConfig:
    """The Transformer that is as large as `yoco_tiny`."""
    return replace(
        yoco_tiny(), self_layers=8, cross_layers=0, mixer="attention", mlp=MATCHED_TINY_MLP
    )


# Counted: makes transformer_tiny as large as yoco_tiny to within 0.1 % (see the tests).
MATCHED_TINY_MLP = 412


def yoco_debug(mixer: Mixer = "gated_retention") -> LMConfig:
    """Everything, as small as it goes."""
    return LMConfig(
        vocab=37,
        width=16,
        mlp=24,
        heads=4,
        kv_heads=2,
        head_dim=8,
        self_layers=2,
        cross_layers=2,
        mixer=mixer,
        mixer_heads=2,
        mixer_head_dim=8,
        window=6,
        chunk=4,
    )


def transformer_debug(mixer: Mixer = "attention") -> LMConfig:
    """`yoco_debug` with full attention in all of its layers."""
    return replace(yoco_debug(), self_layers=4, cross_layers=0, mixer=mixer)


def _scaling() -> dict[str, Callable[[], LMConfig]]:
    made: dict[str, Callable[[], LMConfig]] = {}
    for size in SCALING:
        made[f"yoco-{size}"] = lambda size=size: scaling_yoco(size)
        made[f"transformer-{size}"] = lambda size=size: scaling_transformer(size)
    return made


PRESETS: dict[str, Callable[[], LMConfig]] = {
    "yoco-3b": yoco_3b,
    "transformer-3b": transformer_3b,
    **_scaling(),
    "yoco-tiny": yoco_tiny,
    "yoco-small": yoco_small,
    "transformer-tiny": transformer_tiny,
    "yoco-debug": yoco_debug,
    "transformer-debug": transformer_debug,
}
