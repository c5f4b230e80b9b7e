"""Every field of a configuration changes what is computed, or is refused. Made from the classes."""

from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import pytest

from loomax.agents.rl.config import EvalConfig, FitConfig, TrainConfig
from loomax.agents.rl.fit import Fitter
from loomax.agents.rl.loss_config import GroupConfig
from loomax.agents.rl.toy import point_mass
from loomax.runtime.mesh import MeshConfig, make_mesh
from tests.agents.rl.conftest import on_devices, small

# What the trainer reads between programs; test_train, test_contracts and test_scoring show how.
HOST = {"name", "iterations", "checkpoint_every", "seed", "eval.episodes", "eval.every"}
HOST |= {"eval.stop_at", "eval.seed"}
SKIPPED = ("ground", "sft", "mesh")


def base(algorithm: str, kind: str) -> TrainConfig:
    """One in which as much as possible acts."""
    config = small(algorithm, kind)
    loss = replace(config.rl.loss, kl_coef=0.1, entropy_coef=0.01, dual_clip=3.0)
    group = GroupConfig(size=4, filter_low=0.0, filter_high=9.0) if algorithm == "grpo" else None
    rl = replace(config.rl, loss=loss, group=group or config.rl.group)
    return replace(config, rl=replace(rl, optimiser=replace(rl.optimiser, kl_target=0.02)))


BASES = {
    "ppo-sde": base("ppo", "sde"),
    "ppo-noise": base("ppo", "noise"),
    "grpo-cps": base("grpo", "cps"),
}


def paths(config: Any, prefix: str = "") -> list[str]:
    found = []
    for field in fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        if name in SKIPPED or name in HOST:
            continue
        found += paths(value, name + ".") if is_dataclass(value) else [name]
    return found


def other(config: Any, path: str) -> Any:
    """The configuration with another value in one field, one that is in bounds by itself."""
    name, _, rest = path.partition(".")
    value = getattr(config, name)
    if rest:
        return replace(config, **{name: other(value, rest)})
    hint = get_type_hints(type(config))[name]
    if get_origin(hint) is Literal:
        changed = next(choice for choice in get_args(hint) if choice not in (value, "ode"))
    elif isinstance(value, bool):
        changed = not value
    elif isinstance(value, int):
        changed = value + (value or 1)
    else:
        changed = 0.5 * value if value else 0.25
    return replace(config, **{name: changed})


@cache
def programs(config: TrainConfig) -> str:
    """The iteration and the evaluation as text."""
    parts = on_devices(config)
    key = jax.random.key(0)
    params = jax.eval_shape(lambda: parts.init_params(key=key))
    state = jax.eval_shape(lambda: parts.learner.init(*params, key=key))
    keys = jax.eval_shape(lambda: jax.random.split(key, 16))
    learn = jax.make_jaxpr(lambda state, key: parts.learner(state, key=key))(state, key)
    params = (state.average, state.frozen)
    score = jax.make_jaxpr(lambda p, keys, key: parts.evaluator(p, keys, jnp.int32(0), key=key))
    return f"{learn}\n{score(params, keys, key)}"


# The others only where they differ from the first: tracing takes time.
ONLY = {
    "ppo-sde": ("",),
    "ppo-noise": ("rl.sampler.",),
    "grpo-cps": ("rl.sampler.", "rl.group.", "rl.credit.", "rl.optimiser.critic", "rl.rollout.a"),
}
CASES = [
    (name, path)
    for name, config in BASES.items()
    for path in paths(config)
    if path.startswith(ONLY[name])
]


@pytest.mark.slow  # traces an iteration for every field
@pytest.mark.parametrize(("name", "path"), CASES)
def test_a_field_acts_or_is_refused(name, path):
    config = BASES[name]
    try:
        changed = other(config, path)
        changed.validate(1)
    except ValueError as error:
        assert path.rpartition(".")[2] in str(error), f"{path}: refused without its name: {error}"
        return
    assert programs(changed) != programs(config), f"{path} changes nothing"


@pytest.mark.parametrize("name", ["lr", "b2", "clip_norm", "batch", "steps", "log_every"])
def test_a_field_of_a_supervised_stage_acts(name):
    def text(config):
        fitter = Fitter(config, lambda p, f, batch, *, key: ((p * batch).sum(), {}),
                        make_mesh(MeshConfig(), jax.devices()[:1]))  # fmt: skip
        carry = fitter.init(jnp.zeros(()))
        return str(jax.make_jaxpr(lambda key: fitter.steps(carry, {}, jnp.ones(9), key=key))(
            jax.random.key(0)))  # fmt: skip

    config = FitConfig(steps=400, batch=8, log_every=100)
    assert text(other(config, name)) != text(config)


NOT_NUMBERS = [
    ("rl.optimiser.lr", -1.0),
    ("rl.optimiser.lr", float("nan")),
    ("rl.optimiser.critic_lr", float("inf")),
    ("rl.optimiser.clip_norm", 0.0),
    ("rl.optimiser.b2", float("nan")),
    ("rl.optimiser.kl_target", float("nan")),
    ("rl.optimiser.critic_warmup", -1),
    ("rl.optimiser.ema", float("nan")),
    ("eval.every", -2),
    ("eval.stop_at", float("nan")),
    ("eval.seed", -1),
    ("eval.seed", 99999999999999999999),
    ("eval.video_episodes", -1),
    ("seed", 99999999999999999999),
    ("seed", -1),
]


@pytest.mark.parametrize(("path", "value"), NOT_NUMBERS)
def test_numbers_out_of_bounds_are_refused_by_name(path, value):
    def put(config, path):
        name, _, rest = path.partition(".")
        return replace(config, **{name: put(getattr(config, name), rest) if rest else value})

    with pytest.raises(ValueError) as caught:
        put(point_mass(), path).validate(1)
    assert f"{path.removeprefix('rl.')} is {value}" in str(caught.value)


def test_no_more_episodes_are_shown_than_played():
    with pytest.raises(ValueError, match="video_episodes is 100; it must lie in 0..16"):
        EvalConfig(episodes=16, video_episodes=100).validate(1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", float("nan")), ("lr", -1.0), ("b2", 1.0), ("clip_norm", 0.0), ("noise_std", -0.1)],
)
def test_numbers_of_a_stage_out_of_bounds_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"sft.{name} is {value}; it must"):
        replace(FitConfig(), **{name: value}).validate("sft", 1)
