"""Configuration of a supernet's training. Imports no JAX."""

import math
from dataclasses import dataclass, field
from typing import Literal

from loomax.nas.sample.config import ConflictAwareConfig
from loomax.runtime.bounds import check_seed, check_settings

Source = Literal["digits", "shapes", "folder", "tar", "arrayrecord"]
Rule = Literal["uniform", "sandwich", "complexity", "performance"]
SpaceName = Literal["digits", "digits-debug", "shapes", "shapes-debug", "elasticvit"]


@dataclass(frozen=True)
class DataConfig:
    """Where images come from, and how they are split.

    Args:
        source: "digits" is scikit-learn's, embedded; "shapes" are drawn by the ray caster;
            "folder" has one sub-folder a class, "tar" shards with image files and a .cls file
            each, "arrayrecord" tf.train.Example records with `image` (encoded bytes) and `label`.
        path: the folder of images or shards; unused for digits and shapes.
        classes: of "arrayrecord"; the others know theirs.
        images: of "shapes", how many are drawn; the others have as many as there are.
        batch: images of a step.
        validation, test: shares of all images. The seed of the split is its own, so that runs
            with different seeds are compared on the same images.
        split_seed: of the split.
        shift: digits and shapes are moved by up to so many pixels in both directions; other images
            are cut out at random and mirrored.
        workers: threads that read and decode.
    """

    source: Source = "digits"
    path: str = ""
    classes: int = 0
    images: int = 4096
    batch: int = 64
    validation: float = 0.2
    test: float = 0.2
    split_seed: int = 0
    shift: int = 1
    workers: int = 2


@dataclass(frozen=True)
class SamplerConfig:
    """Which nets a step trains.

    Args:
        rule: "uniform"; "sandwich": the largest, the smallest and uniform ones; "complexity":
            nets of one bank of MACs and the bank's smallest; "performance": also a memory of good
            ones and a preference for width.
        nets: of a step, with "uniform" and "sandwich".
        banks: settings of "complexity" and "performance", whose step has banks.nets + 1 nets.
    """

    rule: Rule = "sandwich"
    nets: int = 4
    banks: ConflictAwareConfig = field(default_factory=ConflictAwareConfig)

    @property
    def count(self) -> int:
        """Nets of a step."""
        return self.nets if self.rule in ("uniform", "sandwich") else self.banks.nets + 1


@dataclass(frozen=True)
class DistillConfig:
    """What nets learn from beside labels.

    Within a step the largest net (sandwich) or the nets of the bank (complexity, performance)
    teach the others. A teacher that knows nothing yet only does harm, hence the warm-up.

    Args:
        in_place: share of the divergence from the step's own teachers in a student's loss.
        warmup: steps before it counts at all.
        ramp: steps over which its share then rises.
        alphas: of the divergence; the larger value counts.
        clip: largest weight of an outcome in it.
        teacher: a network in a file (`model.network`, of a run or a search) that teaches the nets
            that are not students; "" has none.
        teacher_share: share of the soft cross-entropy from that network in their loss.
        temperature: of its probabilities.
    """

    in_place: float = 1.0
    warmup: int = 200
    ramp: int = 200
    alphas: tuple[float, float] = (-1.0, 1.0)
    clip: float = 5.0
    teacher: str = ""
    teacher_share: float = 1.0
    temperature: float = 1.0


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW (arXiv 1711.05101) behind adaptive gradient clipping (arXiv 2102.06171).

    Args:
        lr: after `warmup` steps; then it sinks along a cosine to `end_lr`.
        weight_decay: of weights; scales and offsets are left alone.
        clip: largest norm of a unit's gradient over the norm of its weights.
    """

    lr: float = 3e-3
    end_lr: float = 3e-5
    warmup: int = 50
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.05
    clip: float = 0.1


@dataclass(frozen=True)
class SupernetTrainConfig:
    """A whole run.

    Args:
        space: of which networks.
        subnets: devices that the nets of a step are spread over.
        smoothing: of labels, in [0, 1).
        calibration: training images whose statistics normalise a net when it is scored.
        log_every, score_every, checkpoint_every: steps between lines of metrics, between scores of
            the smallest, median and largest net, and between checkpoints.
    """

    name: str
    space: SpaceName
    steps: int
    data: DataConfig = field(default_factory=DataConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    subnets: int = 1
    smoothing: float = 0.1
    calibration: int = 256
    log_every: int = 20
    score_every: int = 200
    checkpoint_every: int = 200
    seed: int = 0

    def validate(self, devices: int) -> None:
        """Refuses an inconsistent configuration before anything is compiled.

        Raises:
            ValueError: naming the value, the bound and the fix.
        """
        for name in ("steps", "log_every", "score_every", "checkpoint_every", "calibration"):
            _least(name, getattr(self, name), 1)
        _least("data.batch", self.data.batch, 1)
        _least("data.images", self.data.images, 1)
        _least("data.classes", self.data.classes, 0)
        _least("data.shift", self.data.shift, 0)
        _least("data.workers", self.data.workers, 0)
        for name, seed in (("seed", self.seed), ("data.split_seed", self.data.split_seed)):
            check_seed(name, seed)
        _inside("smoothing", self.smoothing, 0, 1, open_end=True)
        if not 1 <= self.subnets <= devices:
            raise ValueError(f"subnets is {self.subnets}; give 1 to {devices}, the devices here")
        if self.data.source not in ("digits", "shapes") and not self.data.path:
            raise ValueError(
                f"data.path is empty; give the folder of the images (data.source is"
                f" {self.data.source!r})"
            )
        if (self.data.source == "digits") != self.space.startswith("digits"):
            raise ValueError(
                f"space is {self.space!r} and data.source {self.data.source!r}; digits go with"
                " the digits spaces, colour images with the others"
            )
        self._check_split()
        self._check_nets()
        self._check_distill()
        self._check_optimiser()
        check_settings(self)

    def _check_split(self) -> None:
        for name in ("validation", "test"):
            _inside(f"data.{name}", getattr(self.data, name), 0, 1, open_end=True)
        if self.data.validation + self.data.test >= 1:
            raise ValueError(
                f"data.validation is {self.data.validation} and data.test {self.data.test}; their"
                " sum must be below 1, so that something is left to train on"
            )

    def _check_nets(self) -> None:
        _least("sampler.nets", self.sampler.nets, 2 if self.sampler.rule == "sandwich" else 1)

    def _check_distill(self) -> None:
        given = self.distill
        for name in ("in_place", "teacher_share"):
            _inside(f"distill.{name}", getattr(given, name), 0, 1)
        for name in ("warmup", "ramp"):
            _least(f"distill.{name}", getattr(given, name), 0)
        for name in ("clip", "temperature"):
            _above(f"distill.{name}", getattr(given, name))
        if not all(alpha and math.isfinite(alpha) for alpha in given.alphas):
            raise ValueError(f"distill.alphas is {given.alphas}; give finite values other than 0")

    def _check_optimiser(self) -> None:
        given = self.optimiser
        _above("optimiser.lr", given.lr)
        _above("optimiser.clip", given.clip)
        _inside("optimiser.end_lr", given.end_lr, 0, given.lr)
        _inside("optimiser.weight_decay", given.weight_decay, 0, math.inf, open_end=True)
        for name in ("b1", "b2"):
            _inside(f"optimiser.{name}", getattr(given, name), 0, 1, open_end=True)
        if not 0 <= given.warmup < self.steps:
            raise ValueError(
                f"optimiser.warmup is {given.warmup}; give 0 to {self.steps - 1}, below steps"
            )


def _least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}; give at least {least}")


def _above(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; give a finite value above 0")


def _inside(name: str, value: float, low: float, high: float, open_end: bool = False) -> None:
    if not low <= value <= high or (open_end and value == high):
        raise ValueError(
            f"{name} is {value}; give a value in [{low}, {high}{')' if open_end else ']'}"
        )
