"""An iteration of reinforcement learning as three stages: rollout, returns, update."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Key

from loomax.agents.rl.estimates import estimate
from loomax.agents.rl.iteration import Learner, TrainState, experience_metrics
from loomax.agents.rl.parts import Parts
from loomax.agents.rl.rollout import Actor
from loomax.agents.workflow.stage import Stage


def make_iteration(parts: Parts) -> Callable:
    """`(state, worlds, key) -> (state, worlds, metrics)`, which computes what the learner does.

    `worlds` are the environments' states and observations; `state` has none. The environments
    belong to the devices that a plan puts the rollout on, not to the mesh of `parts`.
    """
    actor, config = _on(parts.actor, None), parts.learner.config
    learner = Learner(actor, config)

    def play(params, step, worlds, key, actor=actor):
        reset_key, key, _ = _keys(step, key)
        if not config.rollout.auto_reset:
            worlds = actor.venv.reset(learner.episode_keys(key=reset_key))
        calls, auto_reset = config.rollout.calls, config.rollout.auto_reset
        *worlds, steps = actor.rollout(params, *worlds, calls=calls, auto_reset=auto_reset, key=key)
        return tuple(worlds), steps

    def learn(state, steps, estimates, key):
        state, metrics = learner.learn(state, steps, estimates, key=_keys(state.step, key)[2])
        return state.replace(step=state.step + 1), metrics | experience_metrics(steps)

    def play_on(mesh):
        envs = config.rollout.envs
        return partial(play, actor=_on(actor, mesh if envs % mesh.size == 0 else None))

    rollout = Stage("rollout", play, resident=(0,), batch_axis=None, physics=True, on_mesh=play_on)
    returns = Stage("returns", lambda steps: estimate(config, steps), batch_axis=None)
    update = Stage("update", learn, resident=(0,), batch_axis=None)

    def iteration(state, worlds, key):
        worlds, steps = rollout((state.trained, state.frozen), state.step, worlds, key)
        state, metrics = update(state, steps, returns(steps), key)
        return state, worlds, metrics

    return iteration


def apart(state: TrainState) -> tuple[TrainState, tuple]:
    """A train state as the iteration takes it: without its worlds, and those."""
    return state.replace(env_state=None, obs=None), (state.env_state, state.obs)


def _on(actor: Actor, mesh: Mesh | None) -> Actor:
    return replace(actor, venv=replace(actor.venv, mesh=mesh))


def _keys(step: Array, key: Key[Array, ""]) -> Key[Array, " 3"]:
    return jax.random.split(jax.random.fold_in(key, step), 3)
