"""A run of `loomax train lm` as a model to be served or asked."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.sharding import Mesh
from jaxtyping import PyTree

from loomax.agents.engine.config import EngineConfig
from loomax.agents.engine.engine import Engine
from loomax.agents.engine.policy import Ordered
from loomax.agents.pretrain.config import PretrainConfig
from loomax.agents.pretrain.learner import Learner, model_of
from loomax.agents.pretrain.report import read_config
from loomax.agents.search.loop.byte_codec import ByteTokens
from loomax.agents.server.served import Served
from loomax.models.lm import LMConfig, safetensors
from loomax.models.tokenizer.bpe import BEGIN, END
from loomax.runtime.checkpoint import Checkpointer
from loomax.runtime.mesh import make_mesh

PAGE = 16
# Prompt tokens that are read at once.
CHUNKS = (16, 128)
# Of what all slots can hold: the rest is for the prefix cache.
PAGES = 2


@dataclass(frozen=True)
class Trained:
    """A model that runs.

    Args:
        context: tokens of a prompt and its answer together.
    """

    served: Served
    tokens: ByteTokens
    context: int


@asynccontextmanager
async def open_trained(
    run_dir: Path, *, slots: int, context: int = 0, mesh: Mesh | None = None
) -> AsyncGenerator[Trained, None]:
    """The newest parameters of a run in an engine, with everything compiled.

    Args:
        slots: requests that are generated at once.
        context: tokens; 0 takes the longest rows of the training.
        mesh: that the engine is spread over; one device by default.

    Raises:
        ValueError: the run is of another kind or has no parameters yet, or the mesh does not fit
            the model.
    """
    config = read_config(run_dir)
    model, params = load_params(run_dir, config)
    asked = context or max(stage.length for stage in config.stages)
    length = -(-asked // PAGE) * PAGE
    sizes = EngineConfig(
        slots=slots,
        context=length,
        page=PAGE,
        pages=PAGES * slots * length // PAGE,
        chunks=tuple(chunk for chunk in CHUNKS if chunk <= length),
        ends=(END,),
    )
    tokens = ByteTokens(config.data.tokenizer)
    engine = Engine(model, params, sizes, words=tokens, policy=Ordered(), mesh=mesh)
    async with engine:
        engine.warm_up()
        served = Served(engine, tokens, (BEGIN,), frozenset({END}), fault=lambda: engine.fault)
        yield Trained(served, tokens, length)


def load_params(run_dir: Path, config: PretrainConfig) -> tuple[LMConfig, PyTree]:
    """Those that a finished run has written, or of the last checkpoint.

    Raises:
        ValueError: there is neither.
    """
    written = run_dir / "model.safetensors"
    if written.is_file():
        model = safetensors.read_config(written)
        return model, safetensors.load(written, model)
    learner = Learner(config, make_mesh(config.mesh))
    state = jax.eval_shape(learner.draw, key=jax.random.key(0))
    kept = Checkpointer(run_dir / "checkpoints").restore(state)
    if kept is None:
        raise ValueError(f"{run_dir} has no checkpoint yet; train it first")
    return model_of(config, config.stages[-1]), kept[1].params
