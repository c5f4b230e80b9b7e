"""The supervised stages: grounding of the prefix, then few-shot fine-tuning of the expert.

Axes: N samples, C actions of a chunk.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key, PyTree

from loomax.agents.rl.config import FitConfig
from loomax.agents.rl.demos import Collector, Demonstrations, flatten
from loomax.agents.rl.fit import Fitter
from loomax.agents.rl.grounding import grounding_loss
from loomax.agents.rl.parts import Parts
from loomax.agents.rl.sft import flow_matching_loss, pad_actions
from loomax.runtime.compile import physics_options

Log = Callable[[int, dict[str, float]], Any]
ENCODE_BATCH = 128


@dataclass(frozen=True)
class Stages:
    """The supervised stages of a run; both collect with one compiled program."""

    parts: Parts
    collect: Callable[..., Demonstrations]

    @classmethod
    def of(cls, parts: Parts) -> "Stages":
        """Stages whose programs compile when they are first used."""
        chunk = parts.actor.chunk
        collector = Collector(parts.venv, -(-parts.env.horizon // chunk), chunk)
        return cls(parts, jax.jit(collector, compiler_options=physics_options()))

    def gather(self, config: FitConfig, *, key: Key[Array, ""]) -> Demonstrations:
        """Scripted episodes as flat samples, without chunks after an episode's end."""
        batch = self.parts.learner.config.rollout.envs
        rounds, left = [], config.episodes
        for index in range(-(-config.episodes // batch)):
            episodes_key, noise_key = jax.random.split(jax.random.fold_in(key, index))
            keys = jax.random.split(episodes_key, batch)
            samples = jax.device_get(self.collect(keys, config.noise_std, key=noise_key))
            rounds.append(flatten(jax.tree.map(lambda x, n=left: x[:, :n], samples)))
            left -= batch
        samples = jax.tree.map(lambda *x: np.concatenate(x), *rounds)
        kept = samples.valid[:, 0]
        return jax.tree.map(lambda x: x[kept], samples)
