"""What trainings in the invented world share, and the one on expert trajectories."""

import asyncio
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Generic, TypeVar

import jax
from jax.sharding import Mesh
from jaxtyping import PyTree

from loomax.agents.pretrain.config import StageConfig
from loomax.agents.pretrain.documents import Documents
from loomax.agents.pretrain.streams import Stream
from loomax.agents.pretrain.train import Trainer
from loomax.agents.search.train.brain import Searcher, searcher_brain, trained_model
from loomax.agents.search.train.config import SearcherConfig
from loomax.agents.search.train.drafts import Draft, drafts_of
from loomax.agents.search.train.grpo.config import SearcherGRPOConfig
from loomax.agents.search.train.rows import ExpertRows
from loomax.agents.search.train.score_rows import JoinedRows, ScoredRows
from loomax.agents.search.world.dataset import trajectories
from loomax.agents.search.world.vocabulary import Vocabulary
from loomax.agents.search.world.world import make_world
from loomax.models.lm import safetensors
from loomax.runtime.distributed import leads, say
from loomax.runtime.metrics import MetricsWriter

ConfigT = TypeVar("ConfigT", SearcherConfig, SearcherGRPOConfig)


class WorldTrainer(Trainer, Generic[ConfigT]):
    """The trainer of language models, with a world in place of documents."""

    def __init__(self, settings: ConfigT, run_dir: Path, mesh: Mesh | None = None):
        world = json.dumps(asdict(settings.world))
        # Trajectories are made, so there are no documents; but a run keeps to one world.
        super().__init__(settings.pretraining, run_dir, Documents((), (), (), world), mesh)
        self.settings, self.world = settings, make_world(settings.world)

    def writer(self) -> MetricsWriter:
        """See `Trainer`. The examination is taken anew by whoever comes to the end."""
        step = self.checkpoints.latest_step()
        return MetricsWriter(self.run_dir, step, again=("heldout/",), enabled=leads())

    def reference(self) -> PyTree:
        """The parameters that the run started from."""
        shapes, where = self.abstract()
        if self.config.init:
            return safetensors.load(self.config.init, self.config.model, where.params)
        key = jax.random.fold_in(self.key, 0)
        return jax.jit(self.learner.draw, out_shardings=where)(key=key).params


class ExpertTrainer(WorldTrainer[SearcherConfig]):
    """Learns from solved questions, and from drafts with scores where a lesson has them."""

    def stream(
        self, number: int, stage: StageConfig, *, rows: int, share: tuple[int, int]
    ) -> Stream:
        """See `Trainer`."""
        lesson, words = self.settings.lessons[number], Vocabulary(self.world.config.sizes)
        given = {"seed": self.stage_seed(number), "share": share}
        scores = lesson.scored.rows(rows)
        solved = ExpertRows(self.world, words, lesson, rows=rows - scores, **given)
        if not scores:
            return solved
        drafts = self.drafts(number, words)
        return JoinedRows(solved, ScoredRows(drafts, words, lesson, rows=scores, **given))

    def drafts(self, number: int, words: Vocabulary) -> list[Draft]:
        """Drafts of the model that the run started from, the same ones after a restart."""
        config, lesson = self.settings, self.settings.lessons[number]
        # Not the questions that the lesson's own rows begin with.
        seed = self.stage_seed(len(config.lessons) + number)
        made = trajectories(
            self.world,
            words,
            lesson.scored.questions,
            seed=seed,
            think=0.0,
            tasks=lesson.tasks,
        )
        searcher = Searcher(trained_model(config), self.reference(), self.world.config.sizes)
        slots, samples = config.exam.slots, lesson.scored.samples

        async def main() -> list[Draft]:
            async with searcher_brain(searcher, slots=slots) as brain:
                return await drafts_of(brain, made, samples=samples, seed=seed, at_once=slots)

        found = asyncio.run(main())
        counts = Counter(draft.score for draft in found)
        say(f"{len(found)} drafts, by the score that they deserve: {dict(sorted(counts.items()))}")
        return found
