"""AdamW behind adaptive gradient clipping, by units of an elastic network's parameters."""

import math

import jax
import optax
from jaxtyping import Array, PyTree

from loomax.models.elastic.config import SupernetConfig
from loomax.models.elastic.leaves import Leaf
from loomax.models.elastic.plan import head_plan, stage_plans
from loomax.nas.train.config import OptimiserConfig


def parameter_leaves(config: SupernetConfig) -> PyTree:
    """What each parameter is: a tree like the parameters, of (leaf, whether layers are stacked)."""

    def tagged(leaves, stacked: bool) -> dict:
        return {name: (leaf, stacked) for name, leaf in leaves.items()}

    stages = [
        {
            "first": tagged(plan.first.leaves, False),
            "layers": [tagged(operator.leaves, True) for operator in plan.layers],
        }
        for plan in stage_plans(config)
    ]
    return {"stages": stages, "head": tagged(head_plan(config).leaves, False)}


def _is_tagged(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], Leaf)


def _by_unit(tag: tuple[Leaf, bool], x: Array) -> Array:
    """[..., inputs, units] of weights; scales, offsets and biases are one unit."""
    leaf, stacked = tag
    lead, shape = x.shape[:stacked], x.shape[stacked:]
    inputs = math.prod(shape[: len(leaf.fan)]) if leaf.fan else math.prod(shape)
    return x.reshape(*lead, inputs, -1)


def clip_units(config: SupernetConfig, clip: float) -> optax.GradientTransformation:
    """Adaptive gradient clipping (arXiv 2102.06171) of each unit: the weights into one output.

    A unit's norm includes weights that the step's nets do not use.
    """
    tags = parameter_leaves(config)
    clipping = optax.adaptive_grad_clip(clip, axis=-2)

    def by_unit(tree: PyTree) -> PyTree:
        return jax.tree.map(_by_unit, tags, tree, is_leaf=_is_tagged)

    def update(updates, state, params=None):
        clipped, state = clipping.update(by_unit(updates), state, by_unit(params))
        return jax.tree.map(lambda x, old: x.reshape(old.shape), clipped, updates), state

    return optax.GradientTransformation(clipping.init, update)


def learning_rate(config: OptimiserConfig, steps: int) -> optax.Schedule:
    """Of each step, counted from 0: a linear rise to `lr`, then a cosine to `end_lr`."""
    fall = optax.cosine_decay_schedule(
        config.lr, steps - config.warmup, alpha=config.end_lr / config.lr
    )
    if not config.warmup:
        return fall
    rise = lambda step: config.lr * (step + 1) / config.warmup  # noqa: E731
    return optax.join_schedules([rise, fall], [config.warmup])


def make_optimiser(
    config: OptimiserConfig, steps: int, supernet: SupernetConfig
) -> optax.GradientTransformation:
    """The optimiser of a run."""
    weights = jax.tree.map(
        lambda tag: bool(tag[0].fan), parameter_leaves(supernet), is_leaf=_is_tagged
    )
    return optax.chain(
        clip_units(supernet, config.clip),
        optax.adamw(
            learning_rate(config, steps),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=weights,
        ),
    )
