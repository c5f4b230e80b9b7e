"""The named configurations of `loomax train search`. Imports no JAX."""

from dataclasses import replace

from loomax.agents.pretrain.config import AdamWConfig, StageConfig
from loomax.agents.rl.loss_config import GroupConfig
from loomax.agents.search.train.config import (
    DRAW,
    ExamConfig,
    LessonConfig,
    ScoredConfig,
    SearcherConfig,
)
from loomax.agents.search.train.grpo.config import PlayConfig, RunConfig, SearcherGRPOConfig
from loomax.agents.search.world.config import CHAINS, LARGEST, Task, WorldConfig
from loomax.agents.search.world.vocabulary import Vocabulary
from loomax.models.lm.config import LMConfig

WORLD = WorldConfig()
MODEL = LMConfig(
    vocab=Vocabulary(WORLD.sizes).vocab_size,
    width=96,
    mlp=192,
    heads=4,
    kv_heads=4,
    head_dim=24,
    self_layers=4,
    mixer="attention",
    tied=True,
    # What the published weights were trained with.
    norm_epsilon=1e-6,
)


def searcher() -> SearcherConfig:
    """Learns to copy names on short rows first, then chains, then all kinds of questions."""
    return SearcherConfig(
        name="searcher",
        model=MODEL,
        lessons=(
            LessonConfig(
                StageConfig(length=128, batch=16, steps=500, lr=3e-3, end_lr=3e-3),
                tasks=(Task("chain", 1), Task("chain", 2)),
            ),
            LessonConfig(
                StageConfig(length=384, batch=8, steps=3600, lr=3e-3, end_lr=1e-4),
                tasks=(*CHAINS, *(replace(task, share=task.members / 2 + 0.5) for task in LARGEST)),
            ),
        ),
        optimiser=AdamWConfig(b2=0.98, weight_decay=0.01, warmup=100),
    )


def debug() -> SearcherConfig:
    """Everything that the other one does, two lessons among it, in seconds, to no effect."""
    made, world = searcher(), WorldConfig(entities=400, sizes=10)
    return replace(
        made,
        name="searcher-debug",
        world=world,
        model=replace(
            MODEL,
            vocab=Vocabulary(world.sizes).vocab_size,
            width=16,
            mlp=16,
            heads=2,
            kv_heads=2,
            head_dim=8,
            self_layers=1,
        ),
        lessons=(
            LessonConfig(
                StageConfig(length=64, batch=8, steps=3, lr=1e-2, end_lr=1e-2),
                tasks=(Task("chain", 1),),
            ),
            LessonConfig(StageConfig(length=288, batch=8, steps=3, lr=1e-2, end_lr=1e-3)),
        ),
        optimiser=AdamWConfig(warmup=1),
        exam=ExamConfig(chains=2, mixture=2, slots=2),
        log_every=1,
        checkpoint_every=2,
    )


def score() -> SearcherConfig:
    """Learns to score its own drafts, from a trained searcher, and goes on with what it knows."""
    made = searcher()
    lesson = replace(
        made.lessons[-1],
        rows=StageConfig(length=384, batch=8, steps=500, lr=5e-4, end_lr=1e-5),
        scored=ScoredConfig(share=0.5),
    )
    return replace(
        made,
        name="searcher-score",
        lessons=(lesson,),
        optimiser=replace(made.optimiser, warmup=50),
    )


def score_debug() -> SearcherConfig:
    """Everything that the other one does, in seconds, to no effect: its parameters are drawn."""
    made = debug()
    scored = ScoredConfig(share=0.5, questions=4, samples=2)
    lesson = replace(made.lessons[-1], scored=scored)
    return replace(made, name="searcher-score-debug", lessons=(lesson,), init=DRAW)


def grpo() -> SearcherGRPOConfig:
    """Learns from its own runs; most questions are of the kinds that the lessons left hard."""
    chains = tuple(replace(task, share=0.25) for task in CHAINS)
    tasks = (*chains, *(replace(task, share=task.members) for task in LARGEST))
    return SearcherGRPOConfig(name="searcher-grpo", model=MODEL, play=PlayConfig(tasks=tasks))


def grpo_debug() -> SearcherGRPOConfig:
    """Everything that the other one does, in seconds, to no effect: its parameters are drawn."""
    small = debug()
    return replace(
        grpo(),
        name="searcher-grpo-debug",
        init=DRAW,
        world=small.world,
        model=small.model,
        steps=3,
        play=PlayConfig(questions=2, slots=2),
        group=GroupConfig(size=2),
        minibatches=2,
        exam=small.exam,
        checkpoint_every=2,
    )


CONFIGS: dict[str, RunConfig] = {
    config.name: config
    for config in (searcher(), debug(), score(), score_debug(), grpo(), grpo_debug())
}
