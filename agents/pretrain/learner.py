"""One training step and one score, as pure functions of the train state and a batch of rows.

Shape letters: B rows, T tokens of a row (one more than are predicted).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int, Key, PyTree

from loomax.agents.pretrain.config import PretrainConfig, StageConfig
from loomax.agents.pretrain.data import Rows
from loomax.agents.pretrain.optimiser import learning_rate, make_optimiser
from loomax.agents.pretrain.processes import own_rows, row_share
from loomax.models.lm import create
from loomax.models.lm.config import LMConfig
from loomax.models.lm.loss import TokenLoss
from loomax.models.lm.parallel import next_token_loss
from loomax.runtime.mesh import CONTEXT, batch_sharding, fsdp_shardings, on_mesh


@struct.dataclass
@no_type_check  # the same fields also hold shapes and shardings
class TrainState:
    """All that the next step needs: float32 parameters and Adam's moments."""

    step: Int[Array, ""]
    params: PyTree
    opt_state: PyTree


def model_of(config: PretrainConfig, stage: StageConfig) -> LMConfig:
    """The model with the stage's rotary wavelengths."""
    return replace(config.model, rope=replace(config.model.rope, theta=stage.theta))


def rows_loss(
    model: LMConfig,
    params: PyTree,
    tokens: Int[Array, "B T"],
    segments: Int[Array, "B T"],
    weights: Float[Array, "B T"],
    *,
    mesh: Mesh,
) -> TokenLoss:
    """Weighted sums over all targets but padding and the first tokens of documents.

    Each row is split over the mesh's `context` axis, padded until that divides it.
    """
    short = -tokens.shape[1] % mesh.shape[CONTEXT]
    parts = (jnp.pad(part, ((0, 0), (0, short))) for part in (tokens, segments, weights))
    tokens, segments, weights = parts
    real = segments > 0
    # Padding stands at the end of a row, and document numbers must not fall.
    ascending = jnp.where(real, segments, jnp.iinfo(jnp.int32).max)
    return next_token_loss(model, params, tokens, ascending, weights * real, mesh=mesh)


def summed_grads(
    nats_of: Callable[..., tuple[Array, TokenLoss]], params: PyTree, rows: tuple, parts: int
) -> tuple[TokenLoss, PyTree]:
    """Sums over all rows and their gradient, with activations for a part of the rows at a time.

    Args:
        parts: divides the rows; every part takes as many from each device.
    """
    one = jax.grad(nats_of, has_aux=True)
    if parts == 1:
        grads, sums = one(params, *rows)
        return sums, grads

    def body(total, part):
        grads, sums = one(params, *part)
        return jax.tree.map(jnp.add, total, (sums, grads)), None

    def split(x):
        return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

    zeros = (TokenLoss(*(jnp.zeros(()),) * 3), jax.tree.map(jnp.zeros_like, params))
    return jax.lax.scan(body, zeros, jax.tree.map(split, rows))[0]


@dataclass(frozen=True)
class Learner:
    """The functions of a run on a mesh."""

    config: PretrainConfig
    mesh: Mesh

    def draw(self, *, key: Key[Array, ""]) -> TrainState:
        """A fresh state."""
        return self.begin(create(self.config.model, key=key))

    def begin(self, params: PyTree) -> TrainState:
        """The state before the first step, with these parameters."""
        optimiser = make_optimiser(self.config.optimiser, self.config.stages)
        return TrainState(jnp.zeros((), jnp.int32), params, optimiser.init(params))

    def step(
        self,
        stage: StageConfig,
        state: TrainState,
        tokens: Int[Array, "B T"],
        segments: Int[Array, "B T"],
        weights: Float[Array, "B T"],
    ) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
        """One step on the mean loss over all rows of all devices."""
        config = self.config
        optimiser = make_optimiser(config.optimiser, config.stages)

        def nats_of(params, *rows):
            sums = rows_loss(model_of(config, stage), params, *rows, mesh=self.mesh)
            return sums.nats, sums

        with on_mesh(self.mesh):
            rows = (tokens, segments, weights)
            sums, grads = summed_grads(nats_of, state.params, rows, stage.accumulate)
            # Rows of very short documents may hold no target at all.
            counted = jnp.maximum(sums.tokens, 1)
            grads = jax.tree.map(lambda g: g / counted, grads)
            updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": sums.nats / counted,
            "accuracy": sums.correct / counted,
            "grad_norm": optax.tree.norm(grads),
            "lr": learning_rate(config.optimiser.warmup, config.stages)(state.step),
        }
        return TrainState(state.step + 1, params, opt_state), metrics

    def score(
        self,
        stage: StageConfig,
        params: PyTree,
        tokens: Int[Array, "B T"],
        segments: Int[Array, "B T"],
        weights: Float[Array, "B T"],
    ) -> TokenLoss:
        """Sums of one batch of held-out rows."""
        with on_mesh(self.mesh):
            model = model_of(self.config, stage)
            return rows_loss(model, params, tokens, segments, weights, mesh=self.mesh)

    def state_shardings(self, state: TrainState) -> TrainState:
        """Large parameters and moments in slices, small ones whole."""
        return fsdp_shardings(state, self.mesh)

    @property
    def rows_sharding(self) -> NamedSharding:
        """Rows over all devices that share the batch."""
        return batch_sharding(self.mesh)

    def share(self, rows: int) -> tuple[int, int]:
        """This process's share of a batch's rows: its number, and how many there are."""
        return row_share(self.rows_sharding, rows)

    def own_rows(self, rows: int) -> list[int]:
        """Numbers of this process's rows of a batch."""
        return own_rows(self.rows_sharding, rows)

    def place(self, rows: Rows) -> tuple[Any, ...]:
        """This process's rows as its share of the global batch."""
        return tuple(
            jax.make_array_from_process_local_data(self.rows_sharding, part) for part in rows
        )
