"""Supervised fitting of a pytree of parameters: one compiled program of many scanned steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Key, PyTree

from loomax.agents.rl.config import FitConfig
from loomax.runtime.mesh import batch_sharding, replicated

Loss = Callable[..., tuple[Array, dict[str, Array]]]


def optimiser(config: FitConfig) -> optax.GradientTransformation:
    """Adam under a warm-up and cosine schedule, gradients clipped by their global norm."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.lr, max(1, config.steps // 20), config.steps, config.lr * 0.02
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm), optax.adam(schedule, b2=config.b2)
    )


@dataclass(frozen=True)
class Fitter:
    """Minimises `loss(params, batch, *, key) -> (loss, metrics)` over samples of a data set.

    The data set is a pytree of arrays with one leading sample axis; batches are drawn with
    replacement inside the program, so nothing crosses to the host between steps.
    """

    config: FitConfig
    loss: Loss
    mesh: Mesh

    def steps(self, carry: tuple, data: PyTree, *, key: Key[Array, ""]) -> tuple:
        """`config.log_every` optimiser steps; returns the carry and mean metrics."""
        tx = optimiser(self.config)
        count = jax.tree.leaves(data)[0].shape[0]

        def body(carry, _):
            params, opt_state, step = carry
            draw_key, loss_key = jax.random.split(jax.random.fold_in(key, step))
            index = jax.random.randint(draw_key, (self.config.batch,), 0, count)
            batch = jax.tree.map(lambda x: x[index], data)
            batch = jax.lax.with_sharding_constraint(batch, batch_sharding(self.mesh))
            grads, metrics = jax.grad(self.loss, has_aux=True)(params, batch, key=loss_key)
            updates, opt_state = tx.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state, step + 1), metrics

        carry, metrics = jax.lax.scan(body, carry, None, length=self.config.log_every)
        return carry, jax.tree.map(jnp.mean, metrics)

    def run(
        self,
        params: PyTree,
        data: PyTree,
        *,
        on_log: Callable[[int, dict[str, float]], Any],
        key: Key[Array, ""],
    ) -> PyTree:
        """Fits for `config.steps` steps and returns the parameters."""
        whole = replicated(self.mesh)
        program = jax.jit(self.steps, donate_argnums=(0,), out_shardings=whole)
        opt_state = optimiser(self.config).init(params)
        # A copy, because the caller's parameters must outlive the donated carry.
        carry = jax.tree.map(jnp.copy, (params, opt_state, jnp.zeros((), jnp.int32)))
        carry = jax.device_put(carry, whole)
        data = jax.device_put(data, whole)
        for step in range(0, self.config.steps, self.config.log_every):
            carry, metrics = program(carry, data, key=key)
            on_log(step + self.config.log_every, jax.device_get(metrics))
        return carry[0]
