"""NumPy float64 forms of the denoising steps, written from the formulas and nothing else."""

import math

import numpy as np


def step(kind: str, x, v, k: int, steps: int, level: float, learned=None):
    """Mean and std of step k, scalar arithmetic per element."""
    x, v = np.asarray(x, np.float64), np.asarray(v, np.float64)
    t, t_next = (steps - k) / steps, (steps - k - 1) / steps
    d = t - t_next
    action = x - t * v
    noise = x + (1 - t) * v
    if kind == "ode":
        return (1 - t_next) * action + t_next * noise, np.zeros_like(x)
    if kind == "noise":
        return (1 - t_next) * action + t_next * noise, np.asarray(learned, np.float64)
    if kind == "sde":
        # At t = 1 the first grid point's 1 - t stands in for 0.
        sigma = level * math.sqrt(t / (1 - t if k else 1 / steps))
        weight = t_next - sigma**2 * d / (2 * t)
        return (1 - t_next) * action + weight * noise, np.full_like(x, math.sqrt(d) * sigma)
    angle = math.pi * level / 2
    mean = (1 - t_next) * action + t_next * math.cos(angle) * noise
    return mean, np.full_like(x, t_next * math.sin(angle))


def log_density(x, mean, std):
    """Element-wise normal log-density, 0 where std is 0."""
    x, mean, std = (np.asarray(a, np.float64) for a in (x, mean, std))
    out = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        if std[i] > 0:
            z = (x[i] - mean[i]) / std[i]
            out[i] = -0.5 * z * z - math.log(std[i]) - 0.5 * math.log(2 * math.pi)
    return out


def entropy(std):
    """Element-wise normal entropy, 0 where std is 0."""
    std = np.asarray(std, np.float64)
    return np.where(std > 0, 0.5 * np.log(2 * np.pi * np.e * np.where(std > 0, std, 1) ** 2), 0.0)
