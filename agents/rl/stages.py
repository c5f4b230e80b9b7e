"""The supervised stages: grounding of the prefix, then few-shot fine-tuning of the expert.

Axes: N samples, C actions of a chunk.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key, PyTree

from loomax.agents.rl.config import FitConfig
from loomax.agents.rl.demos import Demonstrations, collect, flatten
from loomax.agents.rl.fit import Fitter
from loomax.agents.rl.grounding import grounding_loss
from loomax.agents.rl.parts import Parts
from loomax.agents.rl.sft import flow_matching_loss, pad_actions
from loomax.runtime.compile import physics_options

Log = Callable[[int, dict[str, float]], Any]
ENCODE_BATCH = 128


def gather_samples(
    parts: Parts, config: FitConfig, relabel: bool, *, key: Key[Array, ""]
) -> Demonstrations:
    """Scripted episodes as flat samples of chunks that were executed whole or in part."""
    venv, env = parts.venv, parts.venv.env
    chunk = parts.actor.chunk

    def program(keys, key):
        return collect(
            venv,
            keys,
            chunks=-(-env.horizon // chunk),
            chunk=chunk,
            expert=env.expert,
            noise_std=config.noise_std,
            relabel=env.relabel if relabel else None,
            key=key,
        )

    batch = min(config.episodes, parts.learner.config.rollout.envs)
    run = jax.jit(program, compiler_options=physics_options())
    rounds = []
    for index in range(-(-config.episodes // batch)):
        episodes_key, noise_key = jax.random.split(jax.random.fold_in(key, index))
        rounds.append(jax.device_get(run(jax.random.split(episodes_key, batch), noise_key)))
    samples = jax.tree.map(lambda *x: np.concatenate(x), *[flatten(r) for r in rounds])
    kept = samples.valid[:, 0]
    return jax.tree.map(lambda x: x[kept], samples)


def encode_all(parts: Parts, params: PyTree, obs: PyTree) -> PyTree:
    """Contexts of many observations, a batch at a time."""
    encode = jax.jit(parts.policy.encode)
    count = jax.tree.leaves(obs)[0].shape[0]
    pieces = []
    for start in range(0, count, ENCODE_BATCH):
        # The last batch wraps round to the start, so that one shape is compiled.
        index = np.arange(start, start + ENCODE_BATCH) % count
        piece = jax.device_get(encode(params, jax.tree.map(lambda x, i=index: x[i], obs)))
        pieces.append(piece)
    return jax.tree.map(lambda *x: np.concatenate(x)[:count], *pieces)


def ground(
    parts: Parts, config: FitConfig, params: tuple, *, on_log: Log, key: Key[Array, ""]
) -> tuple:
    """Fits the prefix to say where the named object is; returns (trained, frozen)."""
    trained, frozen = params
    data_key, fit_key = jax.random.split(key)
    samples = gather_samples(parts, config, relabel=True, key=data_key)
    data = (samples.obs, samples.obs["grounding"])

    def loss(frozen, batch, *, key):
        obs, target = batch
        return grounding_loss(parts.policy, (trained, frozen), obs, target)

    fitter = Fitter(config, loss, parts.mesh)
    return trained, fitter.run(frozen, data, on_log=on_log, key=fit_key)


def fine_tune(
    parts: Parts, config: FitConfig, params: tuple, *, on_log: Log, key: Key[Array, ""]
) -> tuple:
    """Fits the action expert to demonstrations by flow matching; returns (trained, frozen)."""
    trained, frozen = params
    policy = parts.policy
    data_key, fit_key = jax.random.split(key)
    samples = gather_samples(parts, config, relabel=False, key=data_key)
    contexts = encode_all(parts, params, samples.obs)
    actions, mask = jax.jit(pad_actions, static_argnums=(2, 3))(
        samples.actions, samples.valid, policy.horizon, policy.action_dim
    )

    def loss(trained, batch, *, key):
        context, actions, mask = batch
        value = flow_matching_loss(policy, (trained, frozen), context, actions, mask, key=key)
        return value, {"loss": value}

    fitter = Fitter(config, loss, parts.mesh)
    data = (contexts, actions, mask)
    return fitter.run(trained, data, on_log=on_log, key=fit_key), frozen
