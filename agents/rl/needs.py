"""What a run asks of its environment, and what an environment lacks.

Axes: H x W pixels.
"""

from typing import Any

import jax

from loomax.agents.rl.config import TrainConfig
from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.envs.types import Env, State

ATTRIBUTES = ("action_size", "proprio_size", "privileged_size", "instructions", "horizon")
METHODS = ("reset", "step", "render")
INFO = ("steps", "terminated", "truncated", "success")


def check_env(env: Any, config: TrainConfig, *, stepped: bool = True) -> None:
    """Refuses an environment that lacks what the run needs, by tracing it: nothing is compiled.

    Args:
        stepped: whether `step` is traced too, which takes seconds for a world of MuJoCo.

    Raises:
        ValueError: naming what is missing, which stage needs it, and what to do.
    """
    name = type(env).__name__
    lacking = [each for each in (*ATTRIBUTES, *METHODS) if not hasattr(env, each)]
    if lacking:
        raise ValueError(
            f"{name} has no {', '.join(lacking)}, which every run needs; see envs/types.py"
        )
    for stage, methods in (("sft", ("expert",)), ("ground", ("expert", "relabel", "pointing"))):
        lacking = [each for each in methods if not hasattr(env, each)]
        if getattr(config, stage).steps and lacking:
            raise ValueError(
                f"{name} has no {', '.join(lacking)}, which the stage {stage} needs; add what is "
                f"missing (see envs/types.py) or use {stage}.steps=0"
            )
    state = jax.eval_shape(lambda: env.reset(key=jax.random.key(0)))
    _check_state(name, env, state)
    if stepped:
        _check_step(name, env, state)
    _check_views(name, env, config, state)


def _check_state(name: str, env: Env, state: State) -> None:
    sizes = {"proprio": (env.proprio_size,), "privileged": (env.privileged_size,)}
    for key, shape in (sizes | {"instruction": ()}).items():
        if key not in state.obs or state.obs[key].shape != shape:
            found = state.obs[key].shape if key in state.obs else "missing"
            raise ValueError(
                f"{name}.reset gives an observation whose {key!r} is {found}; every run needs it "
                f"of shape {shape}"
            )
    lacking = [key for key in INFO if key not in state.info]
    if lacking:
        raise ValueError(
            f"{name}.reset gives a state whose info has no {', '.join(lacking)}, which every run "
            "needs; see envs/types.py"
        )


def _check_step(name: str, env: Env, state: State) -> None:
    action = jax.ShapeDtypeStruct((env.action_size,), "float32")
    following = jax.eval_shape(env.step, state, action)
    before, after = (_described(tree) for tree in (state, following))
    changed = [path for path in before | after if before.get(path) != after.get(path)]
    if changed:
        path = changed[0]
        raise ValueError(
            f"{name}.step gives a state whose {path} is {after.get(path)}, but reset gives "
            f"{before.get(path)}; both must have the same structure, shapes and dtypes"
        )


def _check_views(name: str, env: Env, config: TrainConfig, state: State) -> None:
    images = jax.eval_shape(env.render, state)
    if config.eval.video_episodes and not images:
        raise ValueError(
            f"{name}.render gives no image, which the video needs; use eval.video_episodes=0"
        )
    if isinstance(config.policy, MLPPolicyConfig):
        return
    model = config.policy.model
    for camera in model.cameras:
        shape = (camera.size, camera.size, 3)
        if camera.name not in images or images[camera.name].shape != shape:
            found = images[camera.name].shape if camera.name in images else "missing"
            raise ValueError(
                f"{name}.render gives an image {camera.name!r} that is {found}; the policy needs "
                f"it of shape {shape} (policy.model.cameras), or use an MLP policy"
            )
    if not config.ground.steps:
        return
    grounding = state.obs.get("grounding")
    if grounding is None or grounding.shape != (model.ground,):
        found = "missing" if grounding is None else grounding.shape
        raise ValueError(
            f"{name}.reset gives an observation whose 'grounding' is {found}; the stage ground "
            f"needs it of shape {(model.ground,)} (policy.model.ground), or use ground.steps=0"
        )


def _described(tree: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in leaves}
