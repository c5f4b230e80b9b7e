"""Configuration of a searcher's training: world, lessons, optimiser, examination. No JAX."""

from dataclasses import dataclass, field

from loomax.agents.pretrain.config import AdamWConfig, PretrainConfig, ScoreConfig, StageConfig
from loomax.agents.search.world.config import MIXTURE, Task, WorldConfig
from loomax.agents.search.world.vocabulary import Vocabulary
from loomax.models.lm.config import LMConfig
from loomax.runtime.axes import MeshConfig


@dataclass(frozen=True)
class LessonConfig:
    """A part of the training with questions of some kinds.

    Args:
        rows: how long and how many, for how many steps.
        think: the chance of each turn that its reasoning is written; the rest acts directly
            ("think-dropout"), so that one model can do both.
    """

    rows: StageConfig
    tasks: tuple[Task, ...] = MIXTURE
    think: float = 0.5


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
        init: a safetensors file to start from; "" draws parameters.
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
    def pretraining(self) -> PretrainConfig:
        """The same run as the learner and trainer of `agents/pretrain` take it."""
        return PretrainConfig(
            name=self.name,
            model=self.model,
            stages=tuple(lesson.rows for lesson in self.lessons),
            optimiser=self.optimiser,
            score=ScoreConfig(every=0, rows=0),
            mesh=self.mesh,
            init=self.init,
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
        check_words(self.model, self.world)
        self.pretraining.validate_training(devices)


def check_words(model: LMConfig, world: WorldConfig) -> None:
    """Raises ValueError unless the model has a token for every word of the world."""
    words = Vocabulary(world.sizes).vocab_size
    if model.vocab != words:
        raise ValueError(
            f"model.vocab is {model.vocab}, but a world of {world.sizes} sizes has {words} words; "
            f"use model.vocab={words}"
        )
