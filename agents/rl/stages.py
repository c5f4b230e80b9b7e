"""The supervised stages: grounding of the prefix, then few-shot fine-tuning of the expert.

Axes: N samples, C actions of a chunk.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key, PyTree

from loomax.agents.rl.config import DemonstrationConfig, FitConfig
from loomax.agents.rl.demos import Collector, Demonstrations, flatten
from loomax.agents.rl.fit import Fitter, Loss
from loomax.agents.rl.grounding import grounding_loss
from loomax.agents.rl.parts import Parts
from loomax.agents.rl.sft import flow_matching_loss, pad_actions
from loomax.runtime.compile import physics_options
from loomax.runtime.distributed import say

Log = Callable[[int, dict[str, float]], Any]
ENCODE_BATCH = 128


def tuning_loss(parts: Parts) -> Loss:
    """Flow matching on (source, actions, mask); the source is what the update conditions on too.

    That is a stored context, or an observation to be encoded.
    """
    policy = parts.policy

    def loss(trained, frozen, batch, *, key):
        context, actions, mask = batch
        params = (trained, frozen)
        if not parts.actor.store_context:
            context = jax.lax.stop_gradient(policy.encode(params, context))
        value = flow_matching_loss(policy, params, context, actions, mask, key=key)
        return value, {"loss": value}

    return loss


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

    def gather(
        self, config: FitConfig, failures: bool = True, *, key: Key[Array, ""]
    ) -> Demonstrations:
        """Scripted episodes as flat samples, without chunks after an episode's end.

        Args:
            failures: keep the episodes in which the expert failed.

        Raises:
            ValueError: failures are left out, and there is nothing else.
        """
        batch = self.parts.learner.config.rollout.envs
        rounds, left, solved = [], config.episodes, 0
        for index in range(-(-config.episodes // batch)):
            episodes_key, noise_key = jax.random.split(jax.random.fold_in(key, index))
            keys = jax.random.split(episodes_key, batch)
            samples = jax.device_get(self.collect(keys, config.noise_std, key=noise_key))
            solved += int(samples.success[0, :left].sum())
            rounds.append(flatten(jax.tree.map(lambda x, n=left: x[:, :n], samples)))
            left -= batch
        samples = jax.tree.map(lambda *x: np.concatenate(x), *rounds)
        kept = samples.valid[:, 0]
        if not failures:
            kept = kept & samples.success
            say(f"{solved} of {config.episodes} demonstrations succeeded and are used")
            if not solved:
                raise ValueError(
                    f"none of {config.episodes} demonstrations succeeded: there is nothing to "
                    "imitate; give more or a longer env.horizon, or use sft.failures=True"
                )
        return jax.tree.map(lambda x: x[kept], samples)

    def encode(self, params: PyTree, obs: PyTree) -> PyTree:
        """Contexts of many observations, a batch at a time."""
        encode = jax.jit(self.parts.policy.encode)
        count = jax.tree.leaves(obs)[0].shape[0]
        pieces = []
        for start in range(0, count, ENCODE_BATCH):
            # The last batch wraps round to the start, so that one shape is compiled.
            index = np.arange(start, start + ENCODE_BATCH) % count
            piece = jax.device_get(encode(params, jax.tree.map(lambda x, i=index: x[i], obs)))
            pieces.append(piece)
        return jax.tree.map(lambda *x: np.concatenate(x)[:count], *pieces)

    def ground(
        self, config: FitConfig, params: tuple, *, on_log: Log, key: Key[Array, ""]
    ) -> tuple:
        """Fits the prefix to say where the named object is; returns (trained, frozen)."""
        trained, frozen = params
        data_key, fit_key = jax.random.split(key)
        samples = self.gather(config, key=data_key)
        obs = {**samples.obs, **(samples.asked or {})}

        def loss(frozen, trained, batch, *, key):
            obs, target = batch
            return grounding_loss(self.parts.policy, (trained, frozen), obs, target)

        fitter = Fitter(config, loss, self.parts.mesh)
        data = (obs, obs["grounding"])
        return trained, fitter.run(frozen, data, fixed=trained, on_log=on_log, key=fit_key)

    def fine_tune(
        self, config: DemonstrationConfig, params: tuple, *, on_log: Log, key: Key[Array, ""]
    ) -> tuple:
        """Fits the action expert to demonstrations by flow matching; returns (trained, frozen)."""
        trained, frozen = params
        policy = self.parts.policy
        data_key, fit_key = jax.random.split(key)
        samples = self.gather(config, config.failures, key=data_key)
        source = samples.obs
        if self.parts.actor.store_context:
            source = self.encode(params, source)
        actions, mask = jax.jit(pad_actions, static_argnums=(2, 3))(
            samples.actions, samples.valid, policy.horizon, policy.action_dim
        )
        fitter = Fitter(config, tuning_loss(self.parts), self.parts.mesh)
        data = (source, actions, mask)
        return fitter.run(trained, data, fixed=frozen, on_log=on_log, key=fit_key), frozen
