"""Many environments as one: blocks of environments, chunks of actions, auto-reset.

Axes: B environments, C actions of a chunk, A action dimensions, H x W pixels.

A policy looks only at chunk boundaries, so images are rendered only there. An episode that ends
inside a chunk is held still until the chunk is over; with auto-reset a fresh episode then begins.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Key

from loomax.envs.types import Env, State
from loomax.runtime.compile import PHYSICS_BLOCK, target_platform
from loomax.runtime.mesh import FSDP, REPLICA

Observation = dict[str, Any]


@struct.dataclass
@no_type_check  # the same fields, batched, hold more axes
class ChunkOutcome:
    """What happened while a chunk of actions was executed.

    `valid` marks the steps that a live episode took; `final_obs` is the observation that the
    chunk ended on, before any reset (its images are real only where the episode ended). `broken`
    marks episodes that a step left with numbers that are not finite: they end as they were before
    that step, neither terminated nor truncated. `actions` are those that the controller meant,
    before any exploration noise. `trace` holds the state after every step, if asked for.
    """

    reward: Float[Array, "B C"]
    valid: Bool[Array, "B C"]
    actions: Float[Array, "B C A"]
    terminated: Bool[Array, " B"]
    truncated: Bool[Array, " B"]
    success: Bool[Array, " B"]
    broken: Bool[Array, " B"]
    final_obs: Observation
    trace: State | None


Controller = Callable[[State, Array], tuple[Array, Array]]


def open_loop(state: State, action: Float[Array, " A"]) -> tuple[Array, Array]:
    """The controller that executes the given action as it is."""
    del state
    return action, action


def select(flag: Bool[Array, ""], yes: Any, no: Any) -> Any:
    """`yes` where the flag holds, else `no`, leaf by leaf (typed keys included)."""
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), yes, no)


def is_finite(state: State) -> Bool[Array, ""]:
    """Whether all numbers of a state but its metrics are finite."""
    leaves = jax.tree.leaves(state.replace(metrics={}))
    floats = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(x).all() for x in floats]).all()


def settle(state: State) -> State:
    """A fresh state as it is if it is finite; else one that is over, with zeros for the rest."""
    sound = is_finite(state)

    def clean(x):
        return jnp.where(jnp.isfinite(x), x, 0) if jnp.issubdtype(x.dtype, jnp.floating) else x

    done = jnp.where(sound, state.done, jnp.ones_like(state.done))
    return jax.tree.map(clean, state).replace(done=done)


def run_chunk(
    env: Env, state: State, inputs: Float[Array, "C A"], controller: Controller, trace: bool
) -> tuple[State, tuple]:
    """Executes a chunk in one environment; steps after the end of the episode change nothing.

    A step into a state that is not finite is not taken: it ends the episode where it was.
    """

    def body(state, given):
        live = jnp.logical_not(state.done.astype(bool))
        action, meant = controller(state, given)
        stepped = env.step(state, action)
        sound = is_finite(stepped)
        valid, broken = live & sound, live & jnp.logical_not(sound)
        reached = select(valid, stepped, state)
        done = jnp.where(broken, jnp.ones_like(reached.done), reached.done)
        reached = reached.replace(done=done)
        reward = jnp.where(valid, reached.reward, 0.0)
        return reached, (reward, valid, broken, meant, reached if trace else None)

    return jax.lax.scan(body, state, inputs)


@dataclass(frozen=True)
class VectorEnv:
    """Batched `reset` and `chunk` over one environment.

    Under a mesh the batch is split over its (replica, fsdp) axes by `shard_map`; within a device
    it runs in blocks, which on the CPU is both the fastest form and the one that cannot hang.

    Args:
        env: the single environment.
        mesh: devices to spread the batch over; None for the default device alone.
        images: whether observations hold rendered images.
        final_images: whether `final_obs` is rendered too (needed by critics that look at images).
        trace: whether outcomes hold the state after every step.
        controller: turns (state, input) into (executed action, meant action); inputs are the
            actions themselves by default.
        block: environments stepped together inside a device.
    """

    env: Env
    mesh: Mesh | None = None
    images: bool = True
    final_images: bool = False
    trace: bool = False
    controller: Controller = open_loop
    block: int = PHYSICS_BLOCK

    def _mapped(self, block_fn: Callable, *args: Any) -> Any:
        def local(*args):
            batch = jax.tree.leaves(args)[0].shape[0]
            size = math.gcd(batch, self.block) if target_platform() == "cpu" else batch
            if size == batch:
                return block_fn(*args)
            split = jax.tree.map(lambda x: x.reshape(batch // size, size, *x.shape[1:]), args)
            out = jax.lax.map(lambda xs: block_fn(*xs), split)
            return jax.tree.map(lambda x: x.reshape(batch, *x.shape[2:]), out)

        if self.mesh is None:
            return local(*args)
        spec = P((REPLICA, FSDP))
        return jax.shard_map(local, mesh=self.mesh, in_specs=spec, out_specs=spec, check_vma=False)(
            *args
        )

    def _observe(self, state: State) -> Observation:
        obs = dict(state.obs)
        if self.images:
            obs["images"] = jax.vmap(self.env.render)(state)
        return obs

    def reset(self, keys: Key[Array, " B"]) -> tuple[State, Observation]:
        """Fresh episodes, one per key, and their observations.

        Where a fresh state is not finite the episode is over before it begins.
        """

        def block(keys):
            state = self._fresh(keys)
            return state, self._observe(state)

        return self._mapped(block, keys)

    def _fresh(self, keys: Key[Array, " B"]) -> State:
        return jax.vmap(lambda key: settle(self.env.reset(key=key)))(keys)

    def observe(self, state: State) -> Observation:
        """Observations (with images) of states."""
        return self._mapped(self._observe, state)

    def chunk(
        self,
        state: State,
        actions: Float[Array, "B C A"],
        keys: Key[Array, " B"] | None = None,
    ) -> tuple[State, Observation, ChunkOutcome]:
        """Executes one chunk per environment.

        Args:
            keys: with keys, ended episodes are replaced by fresh ones (auto-reset); without, they
                stay as they ended.
        """

        def block(state, actions, keys=None):
            return self._chunk_block(state, actions, keys)

        args = (state, actions) if keys is None else (state, actions, keys)
        return self._mapped(block, *args)

    def _chunk_block(self, state, actions, keys):
        reached, (reward, valid, broken, meant, trace) = jax.vmap(
            lambda s, a: run_chunk(self.env, s, a, self.controller, self.trace)
        )(state, actions)
        done = reached.done.astype(bool)
        final_obs = dict(reached.obs)
        if self.images and self.final_images:
            shapes = jax.eval_shape(jax.vmap(self.env.render), reached)
            final_obs["images"] = jax.lax.cond(
                done.any(),
                jax.vmap(self.env.render),
                lambda _: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes),
                reached,
            )
        started = valid[:, 0]
        outcome = ChunkOutcome(
            reward=reward,
            valid=valid,
            actions=meant,
            terminated=started & reached.info["terminated"].astype(bool),
            truncated=started & reached.info["truncated"].astype(bool),
            success=reached.info["success"].astype(bool),
            broken=broken.any(-1),
            final_obs=final_obs,
            trace=trace,
        )
        following = reached
        if keys is not None:
            following = jax.vmap(select)(done, self._fresh(keys), reached)
        return following, self._observe(following), outcome
