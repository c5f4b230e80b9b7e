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
from loomax.runtime.mesh import batch_sharding, fsdp_shardings, on_mesh, replicated

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
    """Minimises `loss(params, fixed, batch, *, key) -> (loss, metrics)` over samples of a data set.

    `fixed` are parameters that the loss reads only. Large parameters are spread over the mesh.
    The data set is a pytree of arrays with one leading sample axis; batches are drawn with
    replacement inside the program, so nothing crosses to the host between steps.
    """

    config: FitConfig
    loss: Loss
    mesh: Mesh

    def init(self, params: PyTree) -> tuple:
        """Parameters, state of the optimiser and number of steps: what `steps` carries."""
        return params, optimiser(self.config).init(params), jnp.zeros((), jnp.int32)

    def steps(self, carry: tuple, fixed: PyTree, data: PyTree, *, key: Key[Array, ""]) -> tuple:
        """`config.log_every` optimiser steps; returns the carry and mean metrics."""
        with on_mesh(self.mesh):
            return self._steps(carry, fixed, data, key=key)

    def _steps(self, carry, fixed, data, *, key):
        tx = optimiser(self.config)
        count = jax.tree.leaves(data)[0].shape[0]

        def body(carry, _):
            params, opt_state, step = carry
            draw_key, loss_key = jax.random.split(jax.random.fold_in(key, step))
            index = jax.random.randint(draw_key, (self.config.batch,), 0, count)
            batch = jax.tree.map(lambda x: x[index], data)
            batch = jax.lax.with_sharding_constraint(batch, batch_sharding(self.mesh))
            grads, metrics = jax.grad(self.loss, has_aux=True)(params, fixed, batch, key=loss_key)
            updates, opt_state = tx.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state, step + 1), metrics

        carry, metrics = jax.lax.scan(body, carry, None, length=self.config.log_every)
        return carry, jax.tree.map(jnp.mean, metrics)

    def program(self, carry: tuple) -> Callable[..., tuple]:
        """`steps`, compiled for a carry of these shapes, which it donates."""
        where = (fsdp_shardings(carry, self.mesh), replicated(self.mesh))
        return jax.jit(self.steps, donate_argnames=("carry",), out_shardings=where)

    def run(
        self,
        params: PyTree,
        data: PyTree,
        *,
        fixed: PyTree = None,
        on_log: Callable[[int, dict[str, float]], Any],
        key: Key[Array, ""],
    ) -> PyTree:
        """Fits for `config.steps` steps and returns the parameters."""
        # A copy, because the caller's parameters must outlive the donated carry.
        carry = jax.tree.map(jnp.copy, self.init(params))
        program = self.program(carry)
        carry = jax.device_put(carry, fsdp_shardings(carry, self.mesh))
        fixed = jax.device_put(fixed, fsdp_shardings(fixed, self.mesh))
        data = jax.device_put(data, replicated(self.mesh))
        for step in range(0, self.config.steps, self.config.log_every):
            carry, metrics = program(carry, fixed, data, key=key)
            on_log(step + self.config.log_every, jax.device_get(metrics))
        return carry[0]
