"""The before-and-after video: the same held-out episodes, played by both policies.

Axes: F frames, E episodes, T policy calls, C executed steps, H x W pixels.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from loomax.agents.rl.evaluate import Evaluation
from loomax.envs.registry import make
from loomax.envs.video import side_by_side, write_video

PIXELS = 192
FPS = 20


def telling_episodes(before: Evaluation, after: Evaluation, count: int) -> np.ndarray:
    """Episodes to show: first those that only the later policy solved, then the others."""
    changed = np.asarray(after.success) & ~np.asarray(before.success)
    return np.argsort(~changed, kind="stable")[:count]


def frames_of(
    env_config: Any, played: Evaluation, episodes: np.ndarray
) -> UInt8[np.ndarray, "E F H W 3"]:
    """Renders every step of some episodes at video size."""
    env = make(replace(env_config, image_size=PIXELS, cameras=("scene",)))
    calls, _, steps = played.trace.done.shape
    count = len(episodes) * calls * steps

    def flatten(x):
        """[T, B, C, ...] to the chosen episodes' steps, one episode after the other."""
        chosen = np.moveaxis(np.asarray(x)[:, episodes], 1, 0)
        return chosen.reshape(count, *x.shape[3:])

    flat = jax.tree.map(flatten, played.trace)
    draw = jax.jit(lambda states: jax.lax.map(lambda s: env.render(s)["scene"], states))
    return np.asarray(draw(flat)).reshape(len(episodes), calls * steps, PIXELS, PIXELS, 3)


def before_and_after(
    env_config: Any, before: Evaluation, after: Evaluation, path: Path, count: int
) -> Path:
    """Writes one video: left the policy before RL, right after it; returns what was written."""
    episodes = telling_episodes(before, after, count)
    left = np.concatenate(frames_of(env_config, before, episodes))
    right = np.concatenate(frames_of(env_config, after, episodes))
    return write_video(path, side_by_side(left, right, ("before RL", "after RL")), FPS)
