"""What flow matching trains on: times, noisy actions and the velocities that are right for them.

Shape letters: B batch, H horizon, A action size.
"""

import jax
from jaxtyping import Array, Float, Key


def sample_time(batch: int, *, key: Key[Array, ""]) -> Float[Array, " B"]:
    """0.001 + 0.999 Beta(1.5, 1): more weight on noisy times (pi0, section IV).

    Beta(a, 1) is the a-th root of a uniform number, by its distribution function x^a.
    """
    return 0.001 + 0.999 * jax.random.uniform(key, (batch,)) ** (1 / 1.5)


def noisy_actions(actions: Array, noise: Array, time: Array) -> tuple[Array, Array]:
    """x_t = t noise + (1 - t) actions and its target velocity noise - actions."""
    spread = time[:, None, None]
    return spread * noise + (1 - spread) * actions, noise - actions
