"""GRPO for a language model as three stages: generate, reward, update.

Loss: DeepSeekMath, arXiv 2402.03300, equation 3, no KL term. B rows, T prompt and N new tokens.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from loomax.agents.workflow.stage import Stage
from loomax.models.lm.config import LMConfig
from loomax.models.lm.forward import logits
from loomax.models.lm.generate import decode, prefill


def make_iteration(
    model: LMConfig, reward_fn: Callable, *, new: int, group: int, lr: float = 1e-3
) -> Callable:
    """`(params, Adam's moments, prompts [B, T], keys [B]) -> (params, moments, mean reward)`.

    `reward_fn`: of prompts and new tokens [B, N], gives [B]. Each `group` rows share a prompt.
    """
    optimiser = optax.adam(lr)

    def sample(params, prompts, keys):
        def step(carry, t):
            scores, cache = carry
            each = jax.vmap(jax.random.fold_in, (0, None))(keys, t)
            token = jax.vmap(jax.random.categorical)(each, scores)
            return decode(model, params, cache, token), token

        start = prefill(model, params, prompts, slots=prompts.shape[1] + new)
        return jax.lax.scan(step, start, jnp.arange(new))[1].T

    def loss(params, prompts, tokens, rewards):
        grouped = rewards.reshape(-1, group)
        # Relative to a member, so that equal rewards centre to exactly 0.
        grouped = grouped - grouped[:, :1]
        centred = grouped - grouped.mean(1, keepdims=True)
        advantage = (centred / (grouped.std(1, keepdims=True) + 1e-4)).reshape(-1, 1)
        scores = logits(model, params, jnp.concatenate([prompts, tokens], 1)[:, :-1])
        log_probs = jax.nn.log_softmax(scores[:, -tokens.shape[1] :])
        taken = jnp.take_along_axis(log_probs, tokens[..., None], -1)[..., 0]
        return -(jnp.exp(taken - jax.lax.stop_gradient(taken)) * advantage).mean()

    def learn(params, moments, prompts, tokens, rewards):
        grads = jax.grad(loss)(params, prompts, tokens, rewards)
        updates, moments = optimiser.update(grads, moments)
        return optax.apply_updates(params, updates), moments, rewards.mean()

    generate = Stage("generate", sample, resident=(0,))
    reward = Stage("reward", reward_fn)
    update = Stage("update", learn, resident=(0, 1), batch_axis=None)

    def iteration(params, moments, prompts, keys):
        tokens = generate(params, prompts, keys)
        return update(params, moments, prompts, tokens, reward(prompts, tokens))

    return iteration
