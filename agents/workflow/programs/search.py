"""GRPO of a search agent as four stages: generate and retrieve in turns, then reward and update.

What was retrieved has no loss (Search-R1, arXiv 2503.09516, section 3.2). B rows, T tokens of one.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from loomax.agents.rl.loss_config import GRPOLossConfig
from loomax.agents.rl.losses import PolicyBatch, grpo_loss
from loomax.agents.rl.returns import group_advantages
from loomax.agents.search.train.grpo.learner import token_log_probs
from loomax.agents.workflow.programs.rows import append, last, write
from loomax.agents.workflow.stage import Stage, loop
from loomax.models.lm.config import LMConfig


def make_iteration(
    model: LMConfig, retrieve_fn: Callable, reward_fn: Callable, *,
    turns: int, new: int, document: int, call: int, answer: int, group: int, lr: float = 1e-3,
) -> Callable:  # fmt: skip
    """`(params, Adam's moments, rows, keys [B]) -> (params, moments, mean reward)`.

    `new` tokens a turn at most, up to a `call` or an `answer`. `retrieve_fn`: NumPy, of tokens
    [B, T] and lengths [B], gives [B, document]. `reward_fn`: of rows, gives [B].
    """
    optimiser = optax.adam(lr)

    def read(rows):
        found = jax.ShapeDtypeStruct((len(rows.length), document), jnp.int32)
        found = jax.pure_callback(retrieve_fn, found, rows.tokens, rows.length)
        return append(rows, found, last(rows) != answer, written=False)

    def learn(params, moments, rows, rewards):
        def loss(params):
            now = token_log_probs(model, params, rows.tokens)[..., None]
            old, counts = jax.lax.stop_gradient(now), rows.written[:, 1:, None]
            advantage = group_advantages(rewards, group)[0]
            batch = PolicyBatch(now, old, advantage, counts, jnp.ones_like(rewards))
            return grpo_loss(GRPOLossConfig(level="token"), batch)[0]

        updates, moments = optimiser.update(jax.grad(loss)(params), moments)
        return optax.apply_updates(params, updates), moments, rewards.mean()

    ends = {"new": new, "ends": (call, answer)}
    generate = Stage("generate", partial(write, model, **ends), resident=(0,))
    retrieve = Stage("retrieve", jax.jit(read), fusable=False)
    update = Stage("update", learn, resident=(0, 1), batch_axis=None)

    def iteration(params, moments, rows, keys):
        rows = loop(lambda rows: retrieve(generate(params, rows, keys)), rows, turns)
        rows = generate(params, rows, keys)
        return update(params, moments, rows, Stage("reward", reward_fn)(rows))

    return iteration
