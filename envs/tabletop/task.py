"""What counts as success, and the shaped potential, of each task."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from loomax.envs.scene.table import CUBE_HALF
from loomax.envs.tabletop.config import TabletopConfig
from loomax.envs.tabletop.world import View, World

HOVER = 0.03
PLACED_HEIGHT = 0.012
RELEASED = 0.06


def lifted(config: TabletopConfig, now: View) -> Bool[Array, ""]:
    """Whether the named cube is off the table."""
    return now.height > config.lift_height


def succeeded(config: TabletopConfig, world: World, now: View) -> Bool[Array, ""]:
    """Whether the task is done.

    pick-place asks for a cube that was lifted, lies on its disc, and is released.
    """
    if config.task == "reach":
        above = now.cube + jnp.array([0.0, 0.0, CUBE_HALF + HOVER - 0.02])
        return jnp.linalg.norm(now.tcp - above) < config.touch_radius
    if config.task == "pick":
        return lifted(config, now)
    placed = jnp.linalg.norm(now.cube[:2] - now.goal) < config.place_radius
    low = now.height < PLACED_HEIGHT
    released = (world.control.grip < 0) & (now.opening > RELEASED)
    return (world.lifted > 0) & placed & low & released


def potential(config: TabletopConfig, world: World, now: View) -> Float[Array, ""]:
    """Progress in [0, 1]: near the cube, holding it, lifting it, near its disc."""
    distance = jnp.linalg.norm(now.cube - now.tcp)
    near = 1 - jnp.tanh(8 * distance)
    if config.task == "reach":
        return near
    height = jnp.clip(now.height / config.lift_height, 0.0, 1.0)
    if config.task == "pick":
        return 0.4 * near + 0.2 * now.held + 0.4 * height
    away = jnp.linalg.norm(now.cube[:2] - now.goal)
    carried = jnp.maximum(now.held * height, world.lifted * (away < config.place_radius))
    return 0.2 * near + 0.1 * now.held + 0.2 * height + 0.5 * carried * (1 - jnp.tanh(8 * away))
