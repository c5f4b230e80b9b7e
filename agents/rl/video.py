"""The before-and-after video: the same held-out episodes, played by both policies.

Axes: F frames, E episodes, T policy calls, C executed steps, H x W pixels.
"""

from pathlib import Path

import jax
import numpy as np
from jaxtyping import UInt8

from loomax.agents.rl.evaluate import Evaluation
from loomax.envs.types import Env
from loomax.envs.video import side_by_side, write_video

PIXELS = 192
FPS = 20
# Stands in the picture: these are not random episodes.
CHOSEN = "episodes chosen: first those that are solved only after RL"


def telling_episodes(before: Evaluation, after: Evaluation, count: int) -> np.ndarray:
    """Episodes to show: first those that only the later policy solved, then the others."""
    changed = np.asarray(after.success) & ~np.asarray(before.success)
    return np.argsort(~changed, kind="stable")[:count]


def frames_of(env: Env, played: Evaluation, episodes: np.ndarray) -> UInt8[np.ndarray, "E F H W 3"]:
    """Renders every step of some episodes, at video size if the environment can."""
    env = env.for_video(PIXELS) if hasattr(env, "for_video") else env
    calls, _, steps = played.trace.done.shape
    count = len(episodes) * calls * steps

    def flatten(x):
        """[T, B, C, ...] to the chosen episodes' steps, one episode after the other."""
        chosen = np.moveaxis(np.asarray(x)[:, episodes], 1, 0)
        return chosen.reshape(count, *x.shape[3:])

    flat = jax.tree.map(flatten, played.trace)
    first = lambda state: next(iter(env.render(state).values()))  # noqa: E731
    frames = np.asarray(jax.jit(lambda states: jax.lax.map(first, states))(flat))
    return frames.reshape(len(episodes), calls * steps, *frames.shape[1:])


def before_and_after(
    env: Env, before: Evaluation, after: Evaluation, path: Path, count: int
) -> Path:
    """Writes one video: left the policy before RL, right after it; returns what was written."""
    episodes = telling_episodes(before, after, count)
    left = np.concatenate(frames_of(env, before, episodes))
    right = np.concatenate(frames_of(env, after, episodes))
    both = side_by_side(left, right, ("before RL", "after RL"), caption=CHOSEN)
    return write_video(path, both, FPS)
