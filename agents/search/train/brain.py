"""A trained searcher in the engine, as the brain of a search agent."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import jax
from jaxtyping import PyTree

from loomax.agents.engine.config import EngineConfig
from loomax.agents.engine.engine import Engine
from loomax.agents.engine.policy import Ordered, Policy
from loomax.agents.pretrain.learner import Learner, model_of
from loomax.agents.search.ask import Brain
from loomax.agents.search.grammar.search_r1 import SearchR1Grammar
from loomax.agents.search.loop.codec import TextCodec
from loomax.agents.search.train.config import SearcherConfig
from loomax.agents.search.train.grpo.config import RunConfig
from loomax.agents.search.train.presets import CONFIGS
from loomax.agents.search.world.spoken import DOCUMENTS, LIMITS
from loomax.agents.search.world.vocabulary import OBSERVATIONS, Vocabulary
from loomax.models.lm import LMConfig, safetensors
from loomax.models.tokenizer.bpe import BEGIN, END
from loomax.runtime.checkpoint import Checkpointer
from loomax.runtime.config import merge
from loomax.runtime.mesh import make_mesh

PAGE = 16
# What follows a search is otherwise always an observation.
QUESTION = "<think>"


@dataclass(frozen=True)
class Searcher:
    """A model of the invented world's words.

    Args:
        sizes: of the world; they belong to the vocabulary.
        scores: whether it has learnt to score its drafts.
    """

    model: LMConfig
    params: PyTree
    sizes: int
    scores: bool = False


def is_searcher(run_dir: Path) -> bool:
    """Whether a run is one of `loomax train search`."""
    return _kind(_held(run_dir)) is not None


def read_config(run_dir: Path) -> RunConfig:
    """The configuration in `run_dir/config.json`.

    Raises:
        ValueError: the run is of another kind, or was made by another version.
    """
    held = _held(run_dir)
    kind = _kind(held)
    if kind is None:
        raise ValueError(f"{run_dir} is no run of `loomax train search`; see loomax eval RUN")
    return merge(CONFIGS[kind], held)


def load_searcher(source: Path) -> Searcher:
    """A run's newest parameters, or those of a safetensors file of one.

    Only a run tells, by its configuration, whether the model has learnt to score its drafts.

    Raises:
        ValueError: the run is of another kind or has no parameters yet.
    """
    if source.is_file():
        model = safetensors.read_config(source)
        return Searcher(model, safetensors.load(source, model), sizes_of(model.vocab))
    config, written = read_config(source), source / "model.safetensors"
    scores = isinstance(config, SearcherConfig) and config.scores
    if written.is_file():
        return replace(load_searcher(written), scores=scores)
    learner = Learner(config.pretraining, make_mesh(config.mesh))
    state = jax.eval_shape(learner.draw, key=jax.random.key(0))
    kept = Checkpointer(source / "checkpoints").restore(state)
    if kept is None:
        raise ValueError(f"{source} has no checkpoint yet; train it first")
    return Searcher(trained_model(config), kept[1].params, config.world.sizes, scores)


def trained_model(config: RunConfig) -> LMConfig:
    """The model with the last stage's rotary wavelengths."""
    return model_of(config.pretraining, config.pretraining.stages[-1])


def sizes_of(vocab: int) -> int:
    """Sizes of the world whose vocabulary has so many words.

    Raises:
        ValueError: there is no such world.
    """
    sizes = vocab - Vocabulary(0).vocab_size
    if sizes < 1:
        raise ValueError(f"a model of {vocab} words is no searcher: it has no words for sizes")
    return sizes


@asynccontextmanager
async def searcher_brain(
    searcher: Searcher, *, slots: int = 8, policy: Policy | None = None
) -> AsyncGenerator[Brain, None]:
    """The model in an engine of its own, with everything compiled.

    Args:
        slots: requests that are generated at once.
        policy: of the engine's queue; None puts drafts first, with ageing.
    """
    words = Vocabulary(searcher.sizes)
    sizes = EngineConfig(
        slots=slots,
        context=LIMITS.context,
        page=PAGE,
        pages=2 * slots * LIMITS.context // PAGE,
        chunks=(16, 64),
        contexts=(LIMITS.context // 2,),
        ends=(END,),
    )
    policy = policy or Ordered()
    async with Engine(searcher.model, searcher.params, sizes, words=words, policy=policy) as engine:
        engine.warm_up()
        question = QUESTION if searcher.scores else ""
        codec = TextCodec(words, begin=(BEGIN,), question=question)
        yield Brain(engine, codec, SearchR1Grammar(OBSERVATIONS), LIMITS, DOCUMENTS)


def _kind(held: dict) -> str | None:
    """The named configuration of the same class, if there is one."""
    kinds = {"lessons": "searcher", "play": "searcher-grpo"}
    return next((name for field, name in kinds.items() if field in held), None)


def _held(run_dir: Path) -> dict:
    return json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
