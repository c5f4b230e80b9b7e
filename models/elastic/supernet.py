"""A supernet of convolution and transformer stages: any subnet of it in one compiled program.

Layers of a stage are stacked and scanned; layers beyond a subnet's depth are skipped by a branch
that does nothing. Images of another side are another program with the same parameters.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from loomax.models.elastic.config import SupernetConfig, check_covered
from loomax.models.elastic.leaves import draw
from loomax.models.elastic.operator import MODES, Mode, run
from loomax.models.elastic.plan import (
    LAYER_FIELDS,
    StagePlan,
    first_sizes,
    head_plan,
    head_sizes,
    layer_at,
    layer_sizes,
    stage_plans,
)
from loomax.models.elastic.sizes import Sizes, StageSizes, freeze
from loomax.models.initialise import CountedDraws, FlatDraws, Rngs
from loomax.runtime.config import unknown


def init_supernet(config: SupernetConfig, *, key: Key[Array, ""]) -> PyTree:
    """Parameters of the largest network, float32."""
    counted = CountedDraws()
    jax.eval_shape(lambda: _draw(config, counted))

    def drawn(key: Key[Array, ""]) -> PyTree:
        flat_key, other = jax.random.split(key)
        return _draw(config, FlatDraws(jax.random.normal(flat_key, (counted.used,)), other))

    return jax.jit(drawn)(key)


def _draw(config: SupernetConfig, rngs: Rngs) -> PyTree:
    stages = []
    for plan in stage_plans(config):
        layers = [draw(op.leaves, op.lanes[-1], rngs, plan.depth) for op in plan.layers]
        first = draw(plan.first.leaves, plan.first.lanes[-1], rngs)
        stages.append({"first": first, "layers": layers})
    head = head_plan(config)
    return {"stages": stages, "head": draw(head.leaves, head.lanes[-1], rngs)}


def apply_supernet(
    config: SupernetConfig,
    parameters: PyTree,
    sizes: Any,
    images: Float[Array, "B S S C"],
    mode: Mode = "elastic_switch",
    *,
    reference: int | None = None,
) -> Float[Array, "B K"]:
    """Logits of one subnet, with batch normalisation by the batch's own statistics.

    Args:
        sizes: its active sizes, with the fields of `Sizes` (`loomax.nas.space.encode` gives
            them); a pytree argument of the compiled program, except in mode "static". Within it,
            sizes above the largest are not noticed. `resolution` is not read: the images have it.
            There is no gradient towards the images.
        mode: see `loomax.models.elastic.operator`.
        reference: how many of the first images give the statistics for all; None takes all. With
            training images first and others behind them, the others get the logits that the
            extracted network gives them after `calibrate` on those first ones.

    Raises:
        ValueError: unknown mode; sizes of another structure; images larger than the largest; in
            mode "static" also sizes that do not fit.
    """
    if mode not in MODES:
        raise ValueError(unknown("mode", mode, MODES))
    sizes = freeze(sizes) if mode == "static" else _as_arrays(sizes)
    _check(config, sizes, images.shape[1], mode)
    x, width = images, config.channels
    plans = stage_plans(config, reference)
    stages = zip(plans, parameters["stages"], sizes.stages, strict=True)
    for index, (plan, p, stage) in enumerate(stages):
        size = first_sizes(plan.config, width, stage)
        x = run(plan.first, p["first"], x, size, mode, first=index == 0)
        x = _layers(plan, p["layers"], x, stage, mode)
        width = stage.width
    return run(head_plan(config), parameters["head"], x, head_sizes(config, width), mode)


def _layers(plan: StagePlan, parameters: list, x: Array, sizes: StageSizes, mode: Mode) -> Array:
    """The stacked layers of a stage, those beyond the depth left out."""

    def layer(x: Array, p: list, sizes: StageSizes, active: Any) -> Array:
        for op, own, size in zip(plan.layers, p, layer_sizes(plan.config, sizes), strict=True):
            x = run(op, own, x, size, mode, active)
        return x

    if mode == "static":
        for index in range(sizes.depth - plan.start):
            p = jax.tree.map(lambda leaf, index=index: leaf[index], parameters)
            x = layer(x, p, layer_at(sizes, index + plan.start), True)
        return x
    if plan.depth == 0:
        return x
    numbers = jnp.arange(plan.start, plan.start + plan.depth)
    fields = {field: getattr(sizes, field)[plan.start :] for field in LAYER_FIELDS}

    def step(x: Array, now: tuple) -> tuple[Array, None]:
        p, values, number = now
        return layer(x, p, sizes._replace(**values), number < sizes.depth), None

    return jax.lax.scan(step, x, (parameters, fields, numbers))[0]


def _as_arrays(sizes: Any) -> Sizes:
    stages = [
        StageSizes(*(jnp.asarray(getattr(stage, field)) for field in StageSizes._fields))
        for stage in sizes.stages
    ]
    return Sizes(sizes.resolution, tuple(stages))


def _check(config: SupernetConfig, sizes: Sizes, side: int, mode: Mode) -> None:
    most = config.largest
    if side > most.resolution:
        raise ValueError(f"images of side {side}: give at most {most.resolution}, as in the lanes")
    if mode == "static":
        check_covered(sizes, most)
    if len(sizes.stages) != len(most.stages):
        raise ValueError(f"sizes have {len(sizes.stages)} stages: give {len(most.stages)}")
    for index, (stage, bound) in enumerate(zip(sizes.stages, most.stages, strict=True)):
        if mode != "static" and stage.hidden.shape != (bound.depth,):
            raise ValueError(
                f"stage {index}: sizes of {stage.hidden.shape} layers: give ({bound.depth},), the"
                " largest depth"
            )
