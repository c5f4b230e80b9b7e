"""Losses of a supernet's nets, one value per image.

Shape letters: B images, K classes.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from loomax.nas.train.config import DistillConfig


def label_targets(labels: Int[Array, " B"], classes: int, smoothing: float) -> Float[Array, "B K"]:
    """Probabilities: 1 - smoothing at the label, the rest over all classes alike."""
    return jax.nn.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes


def cross_entropy(logits: Float[Array, "B K"], targets: Float[Array, "B K"]) -> Float[Array, " B"]:
    """-sum of targets log softmax(logits), nats."""
    return -(targets * jax.nn.log_softmax(logits)).sum(-1)


def alpha_divergence(
    logits: Float[Array, "B K"], teacher: Float[Array, "B K"], alpha: float, clip: float
) -> Float[Array, " B"]:
    """D(p || q) = sum of q ((p / q)^alpha - 1) / (alpha (alpha - 1)), q the softmax of `logits`.

    Its gradient with respect to log q is -q (p / q)^alpha / alpha, whatever q sums to. The weight
    (p / q)^alpha is held at `clip` where it is larger, in the gradient and in the value, so that
    no image dominates. alpha 1 is the limit KL(p || q).

    Sources: the definition by Minka, MSR-TR-2005-173, and its use and clipping for supernets,
    AlphaNet, arXiv 2102.07954, section 3.

    Args:
        teacher: probabilities p; not differentiated.
        alpha: not 0.
        clip: above 0.
    """
    log_q = jax.nn.log_softmax(logits)
    p = jax.lax.stop_gradient(teacher)
    q = jax.lax.stop_gradient(jnp.exp(log_q))
    log_ratio = jnp.log(jnp.maximum(p, 1e-20)) - jax.lax.stop_gradient(log_q)
    weights = q * jnp.exp(jnp.minimum(alpha * log_ratio, jnp.log(clip)))
    slope = -(weights * log_q).sum(-1) / alpha
    if alpha == 1:
        value = (weights * log_ratio).sum(-1)
    else:
        value = (weights - q).sum(-1) / (alpha * (alpha - 1))
    # The value of one, the gradient of the other.
    return jax.lax.stop_gradient(value - slope) + slope


def adaptive_divergence(
    logits: Float[Array, "B K"],
    teacher: Float[Array, "B K"],
    alphas: tuple[float, float],
    clip: float,
) -> Float[Array, " B"]:
    """For each image the larger of the divergences with either alpha (AlphaNet, equation 8).

    A negative alpha punishes a student that is too sure, a positive one a student that misses
    what its teacher believes.
    """
    low, high = (alpha_divergence(logits, teacher, alpha, clip) for alpha in alphas)
    return jnp.where(low > high, low, high)


def ramp(step: Int[Array, ""], warmup: int, length: int) -> Float[Array, ""]:
    """0 before step `warmup`, then linear to 1 over `length` steps (at once if 0)."""
    past = (step - warmup + 1).astype(jnp.float32)
    return jnp.clip(past / max(length, 1), 0.0, 1.0)


def net_loss(
    logits: Float[Array, "B K"],
    hard: Float[Array, " B"],
    soft: Float[Array, "B K"] | None,
    targets: Float[Array, "B K"],
    learns: Bool[Array, ""],
    progress: Float[Array, ""],
    config: DistillConfig,
) -> Float[Array, " B"]:
    """What a net is trained on.

    Args:
        hard: cross-entropy with the labels.
        soft: what a teacher network believes; None without.
        targets: what the step's own teachers believe.
        learns: whether the net is their student.
        progress: of the warm-up, see `ramp`.
    """
    alone = hard
    if soft is not None:
        share = config.teacher_share
        alone = (1 - share) * hard + share * cross_entropy(logits, soft)
    share = config.in_place * progress
    divergence = adaptive_divergence(logits, targets, config.alphas, config.clip)
    return jnp.where(learns, (1 - share) * hard + share * divergence, alone)
