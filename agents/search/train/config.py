"""Configuration of a searcher's training: world, lessons, optimiser, examination. No JAX."""

import math
from dataclasses import dataclass, field

from loomax.agents.pretrain.config import AdamWConfig, PretrainConfig, ScoreConfig, StageConfig
from loomax.agents.rl.bounds import at_least_one
from loomax.agents.search.world.config import MIXTURE, Task, WorldConfig
from loomax.agents.search.world.vocabulary import Vocabulary
from loomax.models.lm.config import LMConfig
from loomax.runtime.axes import MeshConfig
from loomax.runtime.bounds import check_sizes

# In place of a file: parameters are drawn.
DRAW = "draw"
# A world of fewer sizes has no word "5", the best score.
SCORES = 6


@dataclass(frozen=True)
class ScoredConfig:
    """Rows of drafts with the scores that they deserve (SPAgent, arXiv 2511.20048, III-D).

    The model that a run starts from drafts at every step of some training questions that are solved
    without reasoning, as the loop does when it asks for scores.

    Args:
        share: of a batch's rows; 0 teaches no scores.
        questions: that are drafted for.
        samples: drafts of a step: the first one greedy, the others at temperature 1, where more of
            them are wrong.
        weight: what a score counts in the loss, where a token of the other rows counts 1.
    """

    share: float = 0.0
    questions: int = 1500
    samples: int = 3
    weight: float = 4.0

    def check(self, name: str, batch: int) -> None:
        """Raises ValueError unless a batch has both kinds of rows, or there are no scores."""
        if not 0 <= self.share < 1:
            raise ValueError(f"{name}.share is {self.share}; it must lie in [0, 1)")
        check_sizes(self, name)
        if not self.share:
            return
        if not 1 <= self.rows(batch) < batch:
            raise ValueError(
                f"{name}.share is {self.share}; of a batch of {batch} rows at least 1 must hold "
                "scores and at least 1 none, so that nothing is forgotten: use 0.5"
            )
        for field_name in ("questions", "samples"):
            value = getattr(self, field_name)
            at_least_one(f"{name}.{field_name}", value, "without drafts there are no scores")
        if not 0 < self.weight < math.inf:
            raise ValueError(f"{name}.weight is {self.weight}; it must be above 0 and finite")

    def rows(self, batch: int) -> int:
        """Rows with scores among `batch`."""
        return round(self.share * batch)


@dataclass(frozen=True)
class LessonConfig:
    """A part of the training with questions of some kinds.

    Args:
        rows: how long and how many, for how many steps.
        think: the chance of each turn that its reasoning is written; the rest acts directly
            ("think-dropout"), so that one model can do both.
        scored: rows that teach the model to score its drafts.
    """

    rows: StageConfig
    tasks: tuple[Task, ...] = MIXTURE
    think: float = 0.5
    scored: ScoredConfig = field(default_factory=ScoredConfig)


@dataclass(frozen=True)
class ExamConfig:
    """Questions that the trained model answers on the engine, with real retrieval.

    Args:
        chains, mixture: how many unseen questions of each; 0 asks none.
        documents: that a search finds at most.
        slots: questions at once.

    Raises:
        ValueError: a value is out of range.
    """

    chains: int = 200
    mixture: int = 500
    documents: int = 1
    slots: int = 8

    def __post_init__(self):
        for name, least in (("chains", 0), ("mixture", 0), ("documents", 1), ("slots", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"exam.{name} is {getattr(self, name)}; it must be at least {least}"
                )


@dataclass(frozen=True)
class SearcherConfig:
    """A whole run. The lessons follow one another on the same parameters and optimiser state.

    Args:
        init: a safetensors file to start from; "" draws parameters. A lesson with scores needs a
            file, or "draw" in so many words.
        log_every, checkpoint_every: steps between lines of metrics, and between checkpoints.
    """

    name: str
    model: LMConfig
    lessons: tuple[LessonConfig, ...]
    world: WorldConfig = field(default_factory=WorldConfig)
    optimiser: AdamWConfig = field(default_factory=AdamWConfig)
    exam: ExamConfig = field(default_factory=ExamConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    init: str = ""
    log_every: int = 50
    checkpoint_every: int = 500
    seed: int = 0

    @property
    def scores(self) -> bool:
        """Whether the model learns to score its drafts."""
        return any(lesson.scored.share for lesson in self.lessons)

    @property
    def pretraining(self) -> PretrainConfig:
        """The same run as the learner and trainer of `agents/pretrain` take it."""
        return PretrainConfig(
            name=self.name,
            model=self.model,
            stages=tuple(lesson.rows for lesson in self.lessons),
            optimiser=self.optimiser,
            score=ScoreConfig(every=0, rows=0),
            mesh=self.mesh,
            init="" if self.init == DRAW else self.init,
            log_every=self.log_every,
            checkpoint_every=self.checkpoint_every,
            seed=self.seed,
        )

    def validate(self, devices: int) -> None:
        """Refuses an inconsistent configuration before anything is compiled.

        Raises:
            ValueError: naming the value, the bound and the fix.
        """
        if not self.lessons:
            raise ValueError("lessons is empty; give at least one lesson")
        for index, lesson in enumerate(self.lessons):
            if not lesson.tasks:
                raise ValueError(f"lessons.{index}.tasks is empty; give at least one task")
            if not 0 <= lesson.think <= 1:
                raise ValueError(f"lessons.{index}.think is {lesson.think}; it must be 0 to 1")
            lesson.scored.check(f"lessons.{index}.scored", lesson.rows.batch)
        if self.scores:
            self._check_scores()
        check_words(self.model, self.world)
        self.pretraining.validate_training(devices)

    def _check_scores(self) -> None:
        if not self.init:
            raise ValueError(
                'init is "", but scores are learnt from the drafts of a trained searcher; use '
                "init=RUN/model.safetensors of a run of `loomax train search`"
            )
        if self.world.sizes < SCORES:
            raise ValueError(
                f"world.sizes is {self.world.sizes}; scores are the words 1 to 5, so it must be at "
                f"least {SCORES}"
            )


def check_words(model: LMConfig, world: WorldConfig) -> None:
    """Raises ValueError unless the model has a token for every word of the world."""
    words = Vocabulary(world.sizes).vocab_size
    if model.vocab != words:
        raise ValueError(
            f"model.vocab is {model.vocab}, but a world of {world.sizes} sizes has {words} words; "
            f"use model.vocab={words}"
        )
