"""Compiled rollouts that the tests of the worlds share: physics takes long to compile."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.envs.tabletop.config import TabletopConfig
from loomax.envs.tabletop.env import Tabletop
from loomax.envs.types import State
from loomax.runtime.compile import map_blocks, physics_options

BATCH = 32


@dataclass(frozen=True)
class Rollouts:
    """An environment, and one program that plays BATCH episodes of it, `steps` steps each.

    `play(state, actions[B, T, 7], scripted[B])` returns the last state and the states of all steps
    (leading axes B, T). Where `scripted` holds, actions are noise on top of the expert's. Episodes
    go on after their end.
    """

    env: Tabletop
    steps: int
    reset: Callable[[Any], State]
    play: Callable[..., tuple[State, State]]

    @property
    def batch(self) -> int:
        return BATCH

    def start(self, seed: int) -> State:
        return self.reset(jax.random.split(jax.random.key(seed), BATCH))

    def random(self, seed: int, size: float = 1.0) -> tuple[State, State]:
        """Uniform random actions from fresh episodes."""
        shape = (BATCH, self.steps, 7)
        actions = np.random.default_rng(seed).uniform(-size, size, shape).astype(np.float32)
        return self.play(self.start(seed), actions, np.zeros(BATCH, bool))

    def expert(self, seed: int, noise: float = 0.0) -> tuple[State, State]:
        """The expert's actions plus normal noise."""
        shape = (BATCH, self.steps, 7)
        actions = noise * np.random.default_rng(seed).standard_normal(shape)
        return self.play(self.start(seed), actions.astype(np.float32), np.ones(BATCH, bool))


def rollouts(config: TabletopConfig, steps: int) -> Rollouts:
    env = Tabletop(config)

    def episode(state, actions, scripted):
        def body(state, action):
            state = env.step(state, action + jnp.where(scripted, env.expert(state), 0.0))
            return state, state

        return jax.lax.scan(body, state, actions)

    play = jax.jit(map_blocks(episode), compiler_options=physics_options())
    reset = jax.jit(lambda keys: jax.vmap(lambda key: env.reset(key=key))(keys))
    return Rollouts(env, steps, reset, play)


@pytest.fixture(scope="session")
def picking() -> Rollouts:
    """Two cubes; the rollout is longer than the episode."""
    config = TabletopConfig(task="pick", cubes=2, horizon=35, pool=32, reward="shaped")
    return rollouts(config, 40)


@pytest.fixture(scope="session")
def placing() -> Rollouts:
    """Three cubes and two discs."""
    config = TabletopConfig(task="pick-place", cubes=3, horizon=60, pool=32, image_size=48)
    return rollouts(config, 60)
