"""The named pretraining configurations. Imports no JAX."""

from dataclasses import replace

from loomax.agents.pretrain.config import (
    VOCABULARY,
    AdamWConfig,
    DataConfig,
    NeedleConfig,
    PretrainConfig,
    ScoreConfig,
    StageConfig,
)
from loomax.models.lm import presets as models
from loomax.models.lm.config import LMConfig
from loomax.runtime.axes import MeshConfig

# The standard library's own modules, without its packages and tests.
STANDARD_LIBRARY = DataConfig(files="*.py")
# The paper's batch of "4M tokens"; what is not said of it for longer rows is taken to be the same.
PAPER_BATCH = 1 << 22


def tiny(name: str, model: LMConfig) -> PretrainConfig:
    """Some ten minutes on two CPU cores, on the sources of the running Python."""
    return PretrainConfig(
        name=name,
        model=model,
        stages=(StageConfig(length=256, batch=16, steps=400, lr=3e-3, end_lr=3e-4),),
        data=STANDARD_LIBRARY,
        optimiser=AdamWConfig(warmup=40),
        score=ScoreConfig(every=200, rows=0),
    )


def needle(name: str, model: LMConfig) -> PretrainConfig:
    """Learns to look facts up, on short rows first: four facts at once are hard to begin with.

    Then a stage of length extension, for `loomax eval needle` at 8 and more times its rows.
    """
    return PretrainConfig(
        name=name,
        model=replace(model, cross_rope=False),
        stages=(
            StageConfig(length=128, batch=32, steps=500, lr=5e-3, end_lr=3e-3),
            StageConfig(length=256, batch=16, steps=150, lr=3e-3, end_lr=1e-3),
            StageConfig(length=512, batch=8, steps=50, lr=1e-3, end_lr=1e-4, theta=40_000.0),
        ),
        data=replace(STANDARD_LIBRARY, needles=NeedleConfig(share=1.0, most=4, weight=12.0)),
        optimiser=AdamWConfig(b2=0.98, warmup=30),
        score=ScoreConfig(every=0, rows=0),
    )


def full_size(model: LMConfig) -> LMConfig:
    """A model for the embedded tokenizer (the paper's is a download), layers recomputed."""
    return replace(model, vocab=VOCABULARY["default"], remat="full")


def paper_stage(length: int, tokens: float, lr: float, end_lr: float, theta: float) -> StageConfig:
    """As many steps of the paper's batch as `tokens` takes."""
    return StageConfig(
        length=length,
        batch=PAPER_BATCH // length,
        steps=round(tokens / PAPER_BATCH),
        lr=lr,
        end_lr=end_lr,
        theta=theta,
    )


def yoco_3b() -> PretrainConfig:
    """YOCO-3B as trained in the paper (arXiv 2405.05254, section 4.1 and appendix).

    The learning rate was to sink to 1.28e-5 over 5T tokens and training stopped at 1.6T.
    """
    end_lr = 3.2e-4 - (3.2e-4 - 1.28e-5) * 1.6 / 5
    return PretrainConfig(
        name="yoco-3b",
        model=full_size(models.yoco_3b()),
        stages=(paper_stage(4096, 400_000 * PAPER_BATCH, 3.2e-4, end_lr, 10_000.0),),
        optimiser=AdamWConfig(b1=0.9, b2=0.95, weight_decay=0.1, warmup=1000),
        score=ScoreConfig(every=1000, rows=1024),
        log_every=10,
        checkpoint_every=1000,
    )


def yoco_3b_1m() -> PretrainConfig:
    """The length extension of YOCO-3B to a million tokens (section 4.2); give `--init`.

    The paper names one learning rate for each stage. The short warm-up is for Adam's fresh state.
    """
    return replace(
        yoco_3b(),
        name="yoco-3b-1m",
        stages=(
            paper_stage(1 << 16, 6e9, 8e-5, 8e-5, 640e3),
            paper_stage(1 << 18, 4e9, 4e-5, 4e-5, 5e6),
            paper_stage(1 << 20, 1.5e9, 2e-5, 2e-5, 80e6),
        ),
        optimiser=AdamWConfig(b1=0.9, b2=0.95, weight_decay=0.1, warmup=100),
        score=ScoreConfig(every=200, rows=64),
        # Four rows of a million tokens: what is left of the devices shares them.
        mesh=MeshConfig(fsdp=4, context=-1),
    )


def debug() -> PretrainConfig:
    """Everything that the others do, two stages among them, in seconds, to no effect."""
    return PretrainConfig(
        name="lm-debug",
        model=replace(models.yoco_debug(), vocab=VOCABULARY["bytes"]),
        stages=(
            StageConfig(length=16, batch=8, steps=3, lr=1e-2, end_lr=1e-2),
            StageConfig(length=32, batch=8, steps=1, lr=1e-2, end_lr=5e-3, theta=40_000.0),
        ),
        data=replace(STANDARD_LIBRARY, tokenizer="bytes"),
        optimiser=AdamWConfig(warmup=1),
        score=ScoreConfig(every=2, rows=16),
        log_every=1,
        checkpoint_every=2,
    )


CONFIGS = {
    config.name: config
    for config in (
        tiny("yoco-tiny", models.yoco_tiny()),
        tiny("transformer-tiny", models.transformer_tiny()),
        needle("yoco-needle", models.yoco_small()),
        yoco_3b(),
        yoco_3b_1m(),
        debug(),
    )
}
