"""The named trainings of supernets. Imports no JAX."""

from dataclasses import replace

from loomax.nas.sample.config import ConflictAwareConfig
from loomax.nas.train.config import (
    DataConfig,
    DistillConfig,
    OptimiserConfig,
    SamplerConfig,
    SupernetTrainConfig,
)

# Banks of MACs that the spaces of digits and shapes have nets in.
DIGITS_BANKS = ConflictAwareConfig(
    banks=(0.1e6, 0.2e6, 0.3e6, 0.45e6, 0.65e6),
    window=0.1e6,
    capacity=16,
    large_from=0.45e6,
    large_capacity=8,
    growth_epochs=20,
)


def digits() -> SupernetTrainConfig:
    """Minutes on two CPU cores."""
    return SupernetTrainConfig(
        name="digits", space="digits", steps=1500, sampler=SamplerConfig(banks=DIGITS_BANKS)
    )


def shapes() -> SupernetTrainConfig:
    """Solids on a floor, drawn once: networks as large as those for digits."""
    return replace(digits(), name="shapes", space="shapes", data=DataConfig(source="shapes"))


def digits_debug() -> SupernetTrainConfig:
    """Everything that the others do, in seconds, to no effect."""
    return SupernetTrainConfig(
        name="digits-debug",
        space="digits-debug",
        steps=4,
        data=DataConfig(batch=8, validation=0.02, test=0.02),
        sampler=SamplerConfig(
            rule="performance",
            banks=ConflictAwareConfig(
                banks=(3e3, 4.9e3), window=2.5e3, nets=2, capacity=4, exploit=0.9, growth_epochs=1
            ),
        ),
        distill=DistillConfig(warmup=1, ramp=2),
        optimiser=OptimiserConfig(warmup=1),
        calibration=16,
        log_every=1,
        score_every=2,
        checkpoint_every=2,
    )


def imagenet_folder() -> SupernetTrainConfig:
    """The published training of ElasticViT (arXiv 2303.09730, and its public code).

    600 epochs of 1.28 M images in batches of 1024, the bank's nets taught by `distill.teacher`
    where one is given; there were 8 devices with 96 to 128 images each.
    """
    return SupernetTrainConfig(
        name="imagenet-folder",
        space="elasticvit",
        steps=750_000,
        data=DataConfig(source="folder", batch=1024, validation=0.02, test=0.04, workers=16),
        sampler=SamplerConfig(rule="performance"),
        distill=DistillConfig(warmup=6_250, ramp=6_250, temperature=0.2),
        optimiser=OptimiserConfig(lr=5e-4, end_lr=5e-6, warmup=6_250, weight_decay=0.05),
        calibration=2048,
        log_every=50,
        score_every=5_000,
        checkpoint_every=1_000,
    )


CONFIGS = {
    config.name: config for config in (digits(), shapes(), digits_debug(), imagenet_folder())
}
