"""A pretraining step in other forms, for `memory.forms` to search: what is recomputed, how layers
run, in how many parts a batch is computed."""

from dataclasses import replace
from typing import Any

import jax
from jax.sharding import Mesh

from loomax.agents.pretrain.config import PretrainConfig, StageConfig
from loomax.agents.pretrain.learner import Learner
from loomax.memory.forms.form import Form
from loomax.memory.forms.judge import Program
from loomax.runtime.mesh import FSDP, REPLICA, replicated

PARTS = (2, 4, 8, 16, 32, 64)


def largest_stage(config: PretrainConfig) -> int:
    """Number of the stage that computes most tokens at once."""
    sizes = [stage.tokens / stage.accumulate for stage in config.stages]
    return max(range(len(sizes)), key=lambda i: (sizes[i], config.stages[i].length))


def in_form(config: PretrainConfig, form: Form, number: int | None = None) -> PretrainConfig:
    """The configuration with its model, and a stage's (default: every) accumulation, in a form."""
    unroll = config.model.unroll if form.layers is None else form.layers == "list"
    stages = [
        replace(stage, accumulate=form.microbatches) if number in (None, i) else stage
        for i, stage in enumerate(config.stages)
    ]
    model = replace(config.model, remat=form.remat, unroll=unroll)
    return replace(config, model=model, stages=tuple(stages))


def form_of(config: PretrainConfig, number: int) -> Form:
    """The form that a configuration's stage has as it is."""
    layers = "list" if config.model.unroll else "scan"
    return Form(config.model.remat, layers, config.stages[number].accumulate)


def step_program(
    config: PretrainConfig, number: int, form: Form, batch: int | None, mesh: Mesh
) -> Program:
    """One training step of a stage, as `train` jits it, with shapes in place of arrays.

    Args:
        batch: rows of the step; None: the stage's.
    """
    config = in_form(config, form, number)
    stage = config.stages[number]
    if batch is not None:
        stage = replace(stage, batch=batch)
    learner = Learner(config, mesh)
    state = jax.eval_shape(learner.draw, key=jax.random.key(0))
    where = learner.state_shardings(state)
    abstract = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, where
    )

    def step(state: Any, tokens: Any, segments: Any, weights: Any) -> Any:
        return learner.step(stage, state, tokens, segments, weights)

    run = jax.jit(step, donate_argnums=0, out_shardings=(where, replicated(mesh)))
    return Program(run, (abstract, *_rows(stage, learner)), donate=(0,))


def _rows(stage: StageConfig, learner: Learner) -> tuple[jax.ShapeDtypeStruct, ...]:
    shape = (stage.batch, stage.length + 1)
    return tuple(
        jax.ShapeDtypeStruct(shape, kind, sharding=learner.rows_sharding)
        for kind in ("int32", "int32", "float32")
    )


def parts_of(config: PretrainConfig, number: int, mesh: Mesh) -> list[int]:
    """Numbers of parts into which the rows of a stage can be divided on a mesh."""
    ways = mesh.shape[REPLICA] * mesh.shape[FSDP]
    rows = config.stages[number].batch
    return [parts for parts in PARTS if rows % (parts * ways) == 0]
