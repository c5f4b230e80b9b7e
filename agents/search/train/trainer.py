"""What trainings in the invented world share, and the one on expert trajectories."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Generic, TypeVar

from jax.sharding import Mesh

from loomax.agents.pretrain.config import StageConfig
from loomax.agents.pretrain.documents import Documents
from loomax.agents.pretrain.train import Trainer
from loomax.agents.search.train.config import SearcherConfig
from loomax.agents.search.train.grpo.config import SearcherGRPOConfig
from loomax.agents.search.train.rows import ExpertRows
from loomax.agents.search.world.vocabulary import Vocabulary
from loomax.agents.search.world.world import make_world

ConfigT = TypeVar("ConfigT", SearcherConfig, SearcherGRPOConfig)


class WorldTrainer(Trainer, Generic[ConfigT]):
    """The trainer of language models, with a world in place of documents."""

    def __init__(self, settings: ConfigT, run_dir: Path, mesh: Mesh | None = None):
        world = json.dumps(asdict(settings.world))
        # Trajectories are made, so there are no documents; but a run keeps to one world.
        super().__init__(settings.pretraining, run_dir, Documents((), (), (), world), mesh)
        self.settings, self.world = settings, make_world(settings.world)


class ExpertTrainer(WorldTrainer[SearcherConfig]):
    """Learns from solved questions."""

    def stream(
        self, number: int, stage: StageConfig, *, rows: int, share: tuple[int, int]
    ) -> ExpertRows:
        """See `Trainer`."""
        return ExpertRows(
            self.world,
            Vocabulary(self.world.config.sizes),
            self.settings.lessons[number],
            rows=rows,
            seed=self.stage_seed(number),
            share=share,
        )
