"""Configuration of a pretraining run: model, documents, optimiser, stages. Imports no JAX."""

import math
from dataclasses import dataclass, field
from typing import Literal

from loomax.agents.rl.bounds import (
    at_least_one,
    check_shared,
    not_negative,
    positive,
)
from loomax.models.lm.config import LMConfig
from loomax.runtime.axes import MeshConfig
from loomax.runtime.bounds import check_seed, check_settings, check_sizes

Format = Literal["auto", "text", "jsonl", "arrayrecord"]
TokenizerName = Literal["bytes", "default"]
# Ids of each tokenizer; models/tokenizer makes them, and a test compares.
VOCABULARY = {"bytes": 259, "default": 1024}


@dataclass(frozen=True)
class NeedleConfig:
    """Rows that are made to be looked up in: facts in the text, each repeated at the row's end.

    Args:
        share: of the rows.
        most: facts of such a row.
        weight: how much a token of a repeated answer counts in the loss, where others count 1.
    """

    share: float = 0.0
    most: int = 4
    weight: float = 10.0


@dataclass(frozen=True)
class DataConfig:
    """Where documents come from and how they become tokens.

    Args:
        path: a file or a folder; "" takes the standard library's sources of the running Python.
        files: which files of a folder, as a glob pattern; "**/*.md" looks into subfolders.
        format: "text" has one document a file, "jsonl" one a line, "arrayrecord" one a record
            (UTF-8); "auto" goes by each file's suffix.
        field: name of a JSON line's text.
        held_out: share of the documents that is scored and never trained on; a document's own
            hash decides, so that it stays on its side whatever else is there.
        tokenizer: "bytes" has 259 ids, "default" is the embedded one of 1,024 ids.
        streams: parts in which documents are read, each by one process or several; 0 takes the
            number of processes that the run starts with. It has to divide every stage's batch.
    """

    path: str = ""
    files: str = "*"
    format: Format = "auto"
    field: str = "text"
    held_out: float = 0.05
    tokenizer: TokenizerName = "default"
    streams: int = 0
    # `field` is taken here.
    needles: NeedleConfig = NeedleConfig()


@dataclass(frozen=True)
class AdamWConfig:
    """AdamW (arXiv 1711.05101); the learning rate is each stage's own.

    Args:
        warmup: first steps of the run, in which the learning rate rises linearly from zero.
        weight_decay: of matrices; norms and the rates of decays are left alone.
        clip_norm: largest norm of all gradients together.
    """

    b1: float = 0.9
    b2: float = 0.95
    weight_decay: float = 0.1
    warmup: int = 100
    clip_norm: float = 1.0


@dataclass(frozen=True)
class StageConfig:
    """A part of the run with rows of one length.

    Args:
        length: tokens that are predicted in a row.
        batch: rows of a step.
        lr: learning rate at the start of the stage, or at the end of the warm-up.
        end_lr: where it has sunk to, linearly, at the end of the stage.
        theta: base of the rotary wavelengths (longer rows need a larger one); 0 switches them off.
        accumulate: parts of a batch that are computed one after another, where all of its
            activations would not fit; the step is the same.
    """

    length: int
    batch: int
    steps: int
    lr: float
    end_lr: float
    theta: float = 10_000.0
    accumulate: int = 1

    @property
    def tokens(self) -> int:
        """Predicted tokens of a step, those at the starts of documents included."""
        return self.length * self.batch


@dataclass(frozen=True)
class ScoreConfig:
    """How held-out perplexity is measured.

    Args:
        every: steps between scores; 0 scores at the end only.
        rows: held-out rows at most; 0 takes all.
    """

    every: int = 100
    rows: int = 256


@dataclass(frozen=True)
class PretrainConfig:
    """A whole run. The stages follow one another on the same parameters and optimiser state.

    Args:
        init: a safetensors file to start from; "" draws parameters.
        log_every, checkpoint_every: steps between lines of metrics, and between checkpoints.
    """

    name: str
    model: LMConfig
    stages: tuple[StageConfig, ...]
    data: DataConfig = field(default_factory=DataConfig)
    optimiser: AdamWConfig = field(default_factory=AdamWConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    init: str = ""
    log_every: int = 10
    checkpoint_every: int = 100
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def validate(self, devices: int) -> None:
        """Refuses an inconsistent configuration before anything is compiled.

        Raises:
            ValueError: naming the value, the bound and the fix.
        """
        self.validate_training(devices)
        self._check_vocabulary()

    def validate_training(self, devices: int) -> None:
        """All of `validate` but for the tokenizer: for rows that are not made of documents.

        Raises:
            ValueError: see `validate`.
        """
        replica, fsdp, _, _ = self.mesh.sizes(devices)
        if not self.stages:
            raise ValueError("stages is empty; give at least one stage")
        for index, stage in enumerate(self.stages):
            _check_stage(f"stages.{index}", stage, replica * fsdp)
        self._check_model()
        self._check_optimiser()
        for name in ("log_every", "checkpoint_every"):
            at_least_one(name, getattr(self, name), "1 does it at every step")
        for name, value in (("every", self.score.every), ("rows", self.score.rows)):
            not_negative(f"score.{name}", value, "see --help")
        check_seed("seed", self.seed)
        check_sizes(self.model, "model")
        check_settings(self)
        streams = self.data.streams
        for index, stage in enumerate(self.stages):
            if streams < 0 or (streams and stage.batch % streams):
                raise ValueError(
                    f"data.streams is {streams}; it must be 0 or divide stages.{index}.batch "
                    f"({stage.batch})"
                )
        if not 0 <= self.data.needles.share <= 1:
            raise ValueError(
                f"data.needles.share is {self.data.needles.share}; it must lie in [0, 1]"
            )
        at_least_one("data.needles.most", self.data.needles.most, "facts of a row")
        if not 0 < self.data.needles.weight < math.inf:
            raise ValueError(
                f"data.needles.weight is {self.data.needles.weight}; it must be above 0 and finite"
            )
        if not 0 <= self.data.held_out < 1:
            raise ValueError(
                f"data.held_out is {self.data.held_out}; it must lie in [0, 1) (0 scores nothing)"
            )

    def _check_vocabulary(self) -> None:
        name, ids = self.data.tokenizer, VOCABULARY.get(self.data.tokenizer)
        if ids is None:
            raise ValueError(f"data.tokenizer is {name!r}; use {' or '.join(VOCABULARY)}")
        if self.model.vocab != ids:
            raise ValueError(
                f"model.vocab is {self.model.vocab}, but the tokenizer {name!r} has {ids} ids; "
                f"use model.vocab={ids}"
            )

    def _check_model(self) -> None:
        if self.model.param_dtype != "float32":
            raise ValueError(
                f"model.param_dtype is {self.model.param_dtype!r}; trained parameters are float32 "
                f"(model.dtype={self.model.param_dtype!r} computes in it)"
            )
        if self.model.kv_bits != 16:
            raise ValueError(
                f"model.kv_bits is {self.model.kv_bits}; training has no cache: use 16, and "
                "another value when you generate"
            )

    def _check_optimiser(self) -> None:
        given, first = self.optimiser, self.stages[0].steps
        for name in ("b1", "b2"):
            if not 0 <= getattr(given, name) < 1:
                raise ValueError(
                    f"optimiser.{name} is {getattr(given, name)}; it must be in [0, 1)"
                )
        if not 0 <= given.warmup < first:
            raise ValueError(
                f"optimiser.warmup is {given.warmup}; it must lie in 0..{first - 1}, within the "
                "first stage"
            )
        not_negative("optimiser.weight_decay", given.weight_decay, "0 for none")
        positive("optimiser.clip_norm", given.clip_norm, "1e9 never clips")


def _check_stage(name: str, stage: StageConfig, shards: int) -> None:
    at_least_one(f"{name}.length", stage.length, "tokens of a row")
    at_least_one(f"{name}.steps", stage.steps, "or leave the stage out")
    at_least_one(f"{name}.accumulate", stage.accumulate, "1 computes the batch at once")
    check_shared(f"{name}.batch", stage.batch, shards)
    if stage.batch % (shards * stage.accumulate):
        raise ValueError(
            f"{name}.batch is {stage.batch}; with {name}.accumulate {stage.accumulate} on {shards} "
            f"devices it must be a multiple of {shards * stage.accumulate}"
        )
    positive(f"{name}.lr", stage.lr, "see --help")
    if not 0 <= stage.end_lr <= stage.lr:
        raise ValueError(
            f"{name}.end_lr is {stage.end_lr}; it must lie in 0..{name}.lr ({stage.lr})"
        )
    not_negative(f"{name}.theta", stage.theta, "0: no rotation")
