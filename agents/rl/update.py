"""Learning from a rollout: advantages, epochs, minibatches and the optimiser.

Axes: T policy calls, B environments, M minibatches, N samples of a minibatch, H horizon,
A action dimensions.

A minibatch holds every environment and T / M of its policy calls, drawn anew each epoch. So a
shuffle never moves data between devices, and the batches are the same on any number of them.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree


def shuffled_calls(
    calls: int, envs: int, minibatches: int, *, key: Key[Array, ""]
) -> Int[Array, "M t B"]:
    """For every environment a permutation of its calls, cut into minibatches.

    Raises:
        ValueError: if the calls do not divide into the minibatches.
    """
    if calls % minibatches:
        raise ValueError(
            f"{calls} policy calls do not divide into {minibatches} minibatches; "
            "choose rollout.calls as a multiple of optimiser.minibatches"
        )
    order = jax.random.permutation(
        key, jnp.broadcast_to(jnp.arange(calls)[:, None], (calls, envs)), axis=0, independent=True
    )
    return order.reshape(minibatches, calls // minibatches, envs)


def take_calls(data: PyTree, index: Int[Array, "t B"]) -> PyTree:
    """Selects calls per environment from [T, B, ...] leaves and flattens them to [B * t, ...].

    Environments come first: an axis that is spread over devices must stay the outer one when two
    are joined, or every device ends up with everything.
    """

    def take(x):
        picked = jax.vmap(lambda calls, rows: calls[rows], in_axes=1)(x, index)
        return picked.reshape(-1, *x.shape[2:])

    return jax.tree.map(take, data)
