"""One iteration of reinforcement learning as one program: rollout, returns and update.

Axes: T policy calls, B environments, N samples of a minibatch, H horizon, A action dimensions,
C executed steps.
"""

from dataclasses import dataclass
from typing import no_type_check

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from loomax.agents.rl.config import RLConfig
from loomax.agents.rl.estimates import Estimates, estimate
from loomax.agents.rl.masks import active_dims
from loomax.agents.rl.objective import objective
from loomax.agents.rl.optimiser import adapt, make_optimiser, scale_actor
from loomax.agents.rl.rollout import Actor, Transition
from loomax.agents.rl.update import shuffled_calls, take_calls
from loomax.envs.types import State
from loomax.envs.vector import Observation
from loomax.runtime.mesh import on_mesh

Metrics = dict[str, Float[Array, ""]]


@struct.dataclass
@no_type_check  # its structure also holds shardings
class TrainState:
    """All that an iteration reads and writes, and all that a checkpoint holds."""

    step: Int[Array, ""]
    trained: PyTree
    frozen: PyTree
    average: PyTree
    reference: PyTree
    opt_state: PyTree
    lr_scale: Float[Array, ""]
    env_state: State
    obs: Observation


@dataclass(frozen=True)
class Learner:
    """The pure iteration `state -> (state, metrics)`; the caller jits and donates."""

    actor: Actor
    config: RLConfig

    @property
    def dims(self) -> Bool[Array, "H A"]:
        """Which elements of an emitted chunk reach the environment."""
        policy, env = self.actor.policy, self.actor.venv.env
        used = getattr(env, "active_dims", env.action_size)
        return active_dims(policy.horizon, policy.action_dim, self.config.rollout.chunk, used)

    def init(self, trained: PyTree, frozen: PyTree, *, key: Key[Array, ""]) -> TrainState:
        """Fresh environments and optimiser state around given parameters."""
        env_state, obs = self.actor.venv.reset(self.episode_keys(key=key))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            trained=trained,
            frozen=frozen,
            average=trained,
            reference=trained if self.config.loss.kl_coef > 0 else {},
            opt_state=make_optimiser(self.config.optimiser).init(trained),
            lr_scale=jnp.ones(()),
            env_state=env_state,
            obs=obs,
        )

    def episode_keys(self, *, key: Key[Array, ""]) -> Key[Array, " B"]:
        """One key per environment; environments of a group share theirs."""
        size = self.config.group_size
        return jnp.repeat(jax.random.split(key, self.config.rollout.envs // size), size)

    def __call__(self, state: TrainState, *, key: Key[Array, ""]) -> tuple[TrainState, Metrics]:
        """Gathers experience with the current policy and learns from it."""
        with on_mesh(self.actor.venv.mesh):
            return self._iterate(state, key=key)

    def _iterate(self, state: TrainState, *, key: Key[Array, ""]) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(key, state.step)
        reset_key, rollout_key, update_key = jax.random.split(key, 3)
        env_state, obs = state.env_state, state.obs
        rollout = self.config.rollout
        if not rollout.auto_reset:
            env_state, obs = self.actor.venv.reset(self.episode_keys(key=reset_key))
        env_state, obs, steps = self.actor.rollout(
            (state.trained, state.frozen),
            env_state,
            obs,
            calls=rollout.calls,
            auto_reset=rollout.auto_reset,
            key=rollout_key,
        )
        state = state.replace(env_state=env_state, obs=obs)
        estimates = estimate(self.config, steps)
        state, metrics = self.learn(state, steps, estimates, key=update_key)
        return state.replace(step=state.step + 1), metrics | experience_metrics(steps)

    def learn(
        self, state: TrainState, steps: Transition, estimates: Estimates, *, key: Key[Array, ""]
    ) -> tuple[TrainState, Metrics]:
        """`epochs` passes over the rollout in minibatches, then the divergence that they led to."""
        config = self.config.optimiser
        calls, envs = steps.index.shape
        orders = jax.vmap(lambda k: shuffled_calls(calls, envs, config.minibatches, key=k))(
            jax.random.split(key, config.epochs + 1)
        )
        # Of one more shuffle the first minibatch is a random sample of the rollout.
        sample, orders = orders[-1, 0], orders[:-1].reshape(-1, *orders.shape[2:])
        actor_scale = jnp.where(state.step < config.critic_warmup, 0.0, state.lr_scale)

        def body(carry, order):
            return self.minibatch(carry, (steps, estimates), order, state, actor_scale)

        carry, metrics = jax.lax.scan(body, (state.trained, state.opt_state), orders)
        trained, opt_state = carry
        last = config.minibatches
        summary = {name: values[-last:].mean() for name, values in metrics.items()}
        _, after = self.loss(trained, (steps, estimates), sample, state)
        summary["approx_kl"] = after["approx_kl"]
        lr_scale = adapt(config, state.lr_scale, summary["approx_kl"])
        lr_scale = jnp.where(state.step < config.critic_warmup, state.lr_scale, lr_scale)
        average = jax.tree.map(
            lambda a, p: config.ema * a + (1 - config.ema) * p, state.average, trained
        )
        state = state.replace(
            trained=trained, opt_state=opt_state, lr_scale=lr_scale, average=average
        )
        return state, summary | {"lr_scale": lr_scale}

    def loss(self, trained: PyTree, data: tuple, order: Array, state: TrainState) -> tuple:
        """Loss and metrics of the calls that `order` names."""
        batch, targets = take_calls(data, order)
        return objective(
            self.config,
            self.actor.policy,
            (trained, state.frozen),
            (state.reference, state.frozen),
            batch,
            targets,
            self.dims,
        )

    def minibatch(self, carry, data, order, state: TrainState, actor_scale):
        """One optimiser step on the calls that `order` names."""
        trained, opt_state = carry
        grads, metrics = jax.grad(self.loss, has_aux=True)(trained, data, order, state)
        updates, opt_state = make_optimiser(self.config.optimiser).update(grads, opt_state, trained)
        trained = optax.apply_updates(trained, scale_actor(updates, actor_scale))
        return (trained, opt_state), metrics | {"grad_norm": optax.tree.norm(grads)}


def experience_metrics(steps: Transition) -> Metrics:
    """Of a rollout: success of the episodes that ended, reward, steps, failed environments."""
    ended = steps.terminated | steps.truncated
    episodes = jnp.maximum(ended.sum(), 1)
    return {
        "success": (ended & steps.success).sum() / episodes,
        "episodes": ended.sum().astype(jnp.float32),
        "reward": (steps.reward * steps.valid).sum() / episodes,
        "env_steps": steps.valid.sum().astype(jnp.float32),
        "value": steps.value.mean(),
        "broken": steps.broken.sum().astype(jnp.float32),
    }
