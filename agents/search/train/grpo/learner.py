"""A step of GRPO on finished runs, as a pure function of the train state and the rollouts.

What the model did not write (questions, observations) is context: it counts nothing in the loss
(Jin et al. 2025, Search-R1, arXiv:2503.09516, section 3.2).

Shape letters: B rollouts, those of a group side by side; T tokens of a row, P = T - 1 of them
predicted.
"""

from dataclasses import dataclass
from typing import no_type_check

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PyTree

from loomax.agents.pretrain.learner import TrainState
from loomax.agents.pretrain.optimiser import make_optimiser
from loomax.agents.rl.losses import PolicyBatch, grpo_loss, loss_weights
from loomax.agents.rl.returns import group_credit
from loomax.agents.search.train.grpo.config import SearcherGRPOConfig
from loomax.models.lm import LMConfig, logits
from loomax.runtime.mesh import on_mesh

Metrics = dict[str, Float[Array, ""]]


@struct.dataclass
@no_type_check  # also holds NumPy arrays on their way to the device
class Rollouts:
    """Finished runs; rows are padded at their end.

    Args:
        written: tokens that the model wrote.
    """

    tokens: Int[Array, "B T"]
    written: Bool[Array, "B T"]
    reward: Float[Array, " B"]


@struct.dataclass
@no_type_check  # of all rollouts, or split into minibatches
class Samples:
    """What the loss reads of rollouts, besides the policy.

    Args:
        counted: predicted tokens that the model wrote.
        old, ref: log-probabilities under the policy that played, and under the reference.
    """

    tokens: Int[Array, "B T"]
    counted: Bool[Array, "B P"]
    advantage: Float[Array, " B"]
    weight: Float[Array, "B P"]
    old: Float[Array, "B P"] | None = None
    ref: Float[Array, "B P"] | None = None


def token_log_probs(
    model: LMConfig, params: PyTree, tokens: Int[Array, "B T"]
) -> Float[Array, "B P"]:
    """The log-probability of each token but the first, given those before it."""
    scores = jax.nn.log_softmax(logits(model, params, tokens[:, :-1]))
    return jnp.take_along_axis(scores, tokens[:, 1:, None], axis=-1)[..., 0]


def samples_of(config: SearcherGRPOConfig, rollouts: Rollouts) -> Samples:
    """Advantages within groups, and what each token counts.

    Every token that the model wrote counts the same; with `loss.length_normalise` every run does.
    """
    counted = rollouts.written[:, 1:]
    whole = jnp.ones((1, 1, len(rollouts.reward)), bool)
    advantage, keep = group_credit(config.group, rollouts.reward[None, None], whole)
    # To the returns a run is an episode, and each token a call of the policy.
    valid = counted.T[:, None]
    weight = loss_weights(config.loss, "chunk", valid, jnp.zeros_like(valid), keep)
    return Samples(rollouts.tokens, counted, advantage, weight.T)


def objective(
    config: SearcherGRPOConfig, samples: Samples, log_prob: Float[Array, "B P"]
) -> tuple[Float[Array, ""], Metrics]:
    """GRPO's loss of samples, given the policy's log-probabilities of their tokens.

    To the loss a run is a chunk of P actions of one element.
    """
    batch = PolicyBatch(
        log_prob=log_prob[..., None],
        old_log_prob=samples.old[..., None],
        advantage=samples.advantage,
        mask=samples.counted[..., None],
        weight=samples.weight,
        ref_log_prob=None if samples.ref is None else samples.ref[..., None],
    )
    return grpo_loss(config.loss, batch)


@dataclass(frozen=True)
class GRPOLearner:
    """The function of a run on a mesh."""

    config: SearcherGRPOConfig
    mesh: Mesh | None = None

    def __call__(
        self, state: TrainState, reference: PyTree, rollouts: Rollouts
    ) -> tuple[TrainState, Metrics]:
        """The state after one update for each minibatch, and the mean of their metrics.

        Args:
            reference: parameters, read only with `loss.kl_coef` above 0.
        """
        config = self.config
        optimiser = make_optimiser(config.optimiser, config.pretraining.stages)

        def split(x):
            # Of every minibatch each device holds a part.
            return x.reshape(-1, config.minibatches, *x.shape[1:]).swapaxes(0, 1)

        def score(part):
            old = token_log_probs(config.model, state.params, part.tokens)
            if not config.loss.kl_coef:
                return part.replace(old=old)
            return part.replace(old=old, ref=token_log_probs(config.model, reference, part.tokens))

        def loss(params, part):
            now = token_log_probs(config.model, params, part.tokens)
            return objective(config, part, now)

        def update(carry, part):
            params, opt_state = carry
            grads, metrics = jax.grad(loss, has_aux=True)(params, part)
            updates, opt_state = optimiser.update(grads, opt_state, params)
            metrics = metrics | {"grad_norm": optax.tree.norm(grads)}
            return (optax.apply_updates(params, updates), opt_state), metrics

        with on_mesh(self.mesh):
            parts = jax.lax.map(score, jax.tree.map(split, samples_of(config, rollouts)))
            start = (state.params, state.opt_state)
            (params, opt_state), metrics = jax.lax.scan(update, start, parts)
        metrics = jax.tree.map(jnp.mean, metrics)
        return TrainState(state.step + 1, params, opt_state), metrics
