"""Configuration of a searcher's reinforcement: questions, reward, loss, optimiser. No JAX."""

from dataclasses import dataclass, field

from loomax.agents.pretrain.config import AdamWConfig, PretrainConfig, ScoreConfig, StageConfig
from loomax.agents.rl.bounds import at_least_one
from loomax.agents.rl.loss_config import GroupConfig, GRPOLossConfig
from loomax.agents.search.train.config import DRAW, ExamConfig, SearcherConfig, check_words
from loomax.agents.search.world.config import MIXTURE, Task, WorldConfig
from loomax.models.lm.config import LMConfig
from loomax.runtime.axes import MeshConfig

# Rows of rollouts are padded to a multiple of so many predicted tokens, so that few programs do.
COLUMNS = 128


@dataclass(frozen=True)
class PlayConfig:
    """What the agent is asked, and what an answer is worth.

    Args:
        questions: of a step, from the training split; each is asked once a member of its group.
        form: the reward of a wrong answer in the right form, and what a right one in a wrong form
            loses (Jin et al. 2025, arXiv:2505.15117).
        documents: that a search finds at most.
        slots: runs at once.
    """

    questions: int = 16
    tasks: tuple[Task, ...] = MIXTURE
    form: float = 0.1
    documents: int = 1
    slots: int = 16


@dataclass(frozen=True)
class SearcherGRPOConfig:
    """A whole run of GRPO (Shao et al. 2024, arXiv:2402.03300).

    Args:
        init: a safetensors file of a trained searcher; "draw" draws parameters.
        steps: each plays once and learns from what it played.
        lr, end_lr: learning rate at the start and, falling linearly, at the end.
        minibatches: of the rollouts of a step, each with an update of its own.
        group: `group.size` runs answer the same question.
        loss: each token has a ratio of its own, so its level is "token". With `kl_coef` above 0
            the reference is the policy of `init`.
        checkpoint_every: steps between checkpoints.
    """

    name: str
    model: LMConfig
    init: str = ""
    steps: int = 60
    lr: float = 3e-4
    end_lr: float = 1e-4
    minibatches: int = 8
    play: PlayConfig = field(default_factory=PlayConfig)
    group: GroupConfig = field(default_factory=GroupConfig)
    loss: GRPOLossConfig = field(default_factory=lambda: GRPOLossConfig(level="token"))
    optimiser: AdamWConfig = field(
        default_factory=lambda: AdamWConfig(b2=0.98, weight_decay=0.0, warmup=0)
    )
    world: WorldConfig = field(default_factory=WorldConfig)
    exam: ExamConfig = field(default_factory=ExamConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint_every: int = 10
    seed: int = 0

    @property
    def rollouts(self) -> int:
        """Runs of the agent in a step."""
        return self.play.questions * self.group.size

    @property
    def pretraining(self) -> PretrainConfig:
        """The same run as the trainer of `agents/pretrain` takes it: a stage of all updates."""
        updates = StageConfig(
            length=COLUMNS,
            batch=max(1, self.rollouts // max(1, self.minibatches)),
            steps=self.steps * self.minibatches,
            lr=self.lr,
            end_lr=self.end_lr,
            theta=self.model.rope.theta,
        )
        return PretrainConfig(
            name=self.name,
            model=self.model,
            stages=(updates,),
            optimiser=self.optimiser,
            score=ScoreConfig(every=0, rows=0),
            mesh=self.mesh,
            init="" if self.init == DRAW else self.init,
            checkpoint_every=self.checkpoint_every,
            seed=self.seed,
        )

    def validate(self, devices: int) -> None:
        """Refuses an inconsistent configuration before anything is compiled.

        Raises:
            ValueError: naming the value, the bound and the fix.
        """
        if not self.init:
            raise ValueError(
                'init is "", but reinforcement needs a searcher that sometimes is right; use '
                "init=RUN/model.safetensors of a run of `loomax train search`"
            )
        at_least_one("steps", self.steps, "each plays and learns")
        at_least_one("minibatches", self.minibatches, "1 learns from all rollouts at once")
        self._check_play()
        self.group.validate()
        self._check_loss()
        if self.rollouts % self.minibatches:
            raise ValueError(
                f"minibatches is {self.minibatches}; it must divide the {self.rollouts} rollouts "
                "of a step (play.questions x group.size)"
            )
        check_words(self.model, self.world)
        if self.mesh.context > 1:
            raise ValueError(f"mesh.context is {self.mesh.context}; rollouts are not split: use 1")
        self.pretraining.validate_training(devices)

    def _check_play(self) -> None:
        for name in ("questions", "documents", "slots"):
            at_least_one(f"play.{name}", getattr(self.play, name), "see --help")
        if not self.play.tasks:
            raise ValueError("play.tasks is empty; give at least one task")
        if not 0 <= self.play.form < 0.5:
            raise ValueError(
                f"play.form is {self.play.form}; it must lie in [0, 0.5), so that a right answer "
                "is always worth more than a wrong one"
            )

    def _check_loss(self) -> None:
        self.loss.validate()
        if self.loss.level != "token":
            raise ValueError(
                f'loss.level is {self.loss.level!r}; every token has its own ratio: use "token"'
            )
        if self.loss.entropy_coef > 0:
            raise ValueError(f"loss.entropy_coef is {self.loss.entropy_coef}; only 0 is known here")


RunConfig = SearcherConfig | SearcherGRPOConfig
