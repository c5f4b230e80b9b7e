"""Scores the policy of a finished or interrupted run, long after it was trained."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax

from loomax.agents.rl.bounds import check_shared
from loomax.agents.rl.config import RLConfig, TrainConfig
from loomax.agents.rl.evaluate import CONTROLS
from loomax.agents.rl.loss_config import GRPOLossConfig, PPOLossConfig
from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.agents.rl.policy_config import PolicyConfig
from loomax.agents.rl.report import Score, table
from loomax.agents.rl.train import HELD_OUT, Trainer, final_params
from loomax.envs.point_mass_config import PointMassConfig
from loomax.envs.tabletop.config import TabletopConfig
from loomax.runtime.config import merge
from loomax.runtime.distributed import say


def class_of(kinds: tuple[type, ...], values: Mapping[str, Any], name: str) -> type:
    """The dataclass that has exactly the fields of `values`.

    Raises:
        ValueError: if there is none.
    """
    for kind in kinds:
        if {field.name for field in fields(kind)} == set(values):
            return kind
    names = ", ".join(kind.__name__ for kind in kinds)
    raise ValueError(
        f"{name} has the fields {', '.join(values)}, those of none of {names}; the run was made "
        "by another version"
    )


def read_config(run_dir: Path) -> TrainConfig:
    """The configuration in `run_dir/config.json`.

    Raises:
        ValueError: for fields that no configuration has.
    """
    held = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
    # Older runs say so in a field; there is no other level.
    held["rl"]["credit"].pop("level", None)
    env = class_of((TabletopConfig, PointMassConfig), held["env"], "env")
    policy = class_of((PolicyConfig, MLPPolicyConfig), held["policy"], "policy")
    loss = class_of((PPOLossConfig, GRPOLossConfig), held["rl"]["loss"], "rl.loss")
    base = TrainConfig(held["name"], env=env(), policy=policy(), rl=RLConfig(loss=loss()))
    return merge(base, held)


def newest_params(trainer: Trainer) -> tuple[str, Any]:
    """Where they come from, and the parameters that the run would ship now.

    Raises:
        ValueError: if the run has no checkpoint yet, or one of another architecture.
    """
    params = jax.eval_shape(lambda: trainer.parts.init_params(key=trainer.key))
    kept = trainer.checkpoints.restore(
        jax.eval_shape(trainer.parts.learner.init, *params, key=trainer.key)
    )
    if kept is not None:
        return f"after {kept[0]} iterations of RL", final_params(kept[1])
    tuned = trainer.tuned.restore(params)
    if tuned is None:
        raise ValueError(f"{trainer.run_dir} has no checkpoint yet; train it first")
    return "before RL", tuned[1]


def evaluate_checkpoint(run_dir: Path, episodes: int, seed: int | None = None) -> dict[str, Score]:
    """Prints and returns the success of a run's newest policy, and of the controls.

    Args:
        seed: from which all held-out episodes are drawn; None takes the run's own eval.seed, with
            which (and with eval.episodes) they are those that training reports at its end.

    Raises:
        ValueError: if the episodes do not divide over the devices, or nothing can be restored.
    """
    check_shared("episodes", episodes, jax.device_count())
    config = read_config(run_dir)
    seed = config.eval.seed if seed is None else seed
    scored = replace(config.eval, episodes=episodes, seed=seed, video_episodes=0)
    scored.validate(jax.device_count())
    trainer = Trainer(replace(config, eval=scored), run_dir)
    name, params = newest_params(trainer)
    scores = {
        name if not index else f"{name}, {control}": trainer.score(params, HELD_OUT, index)
        for index, control in ((i, CONTROLS[i]) for i in (0, *trainer.controls))
    }
    say(table(scores))
    return scores
