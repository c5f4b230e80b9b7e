"""What the policy, the critic and the grounding stage are shown besides images."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from loomax.envs.tabletop.config import DISC_COLOURS, TabletopConfig
from loomax.envs.tabletop.world import View, World

PROPRIO_SIZE = 8
GROUNDING_SIZE = 6
CENTRE = (0.5, 0.0, 0.12)
SPREAD = (0.12, 0.2, 0.12)
# Grounding is told in units of the largest displacement of one action.
UNIT = 0.05


def instruction(world: World) -> Int[Array, ""]:
    """Index of the sentence that names the target (and the goal, where there is one)."""
    cube = world.cube_colours[world.target]
    if not world.discs.shape[0]:
        return cube
    return cube * len(DISC_COLOURS) + world.disc_colours[world.goal]


def proprio(world: World, now: View) -> Float[Array, "8"]:
    """Tool position (scaled), yaw, gripper opening and command, lag of the height."""
    place = (now.tcp - jnp.array(CENTRE)) / jnp.array(SPREAD)
    lag = (world.control.position[2] - now.tcp[2]) / UNIT
    rest = jnp.stack(
        [jnp.sin(now.yaw), jnp.cos(now.yaw), now.opening / 0.04 - 1, world.control.grip, lag]
    )
    return jnp.concatenate([place, rest])


def grounding(now: View) -> Float[Array, "6"]:
    """Named cube relative to the tool (3), its yaw, and the named disc relative to the tool (2)."""
    cube = (now.cube - now.tcp) / UNIT
    goal = (now.goal - now.tcp[:2]) / UNIT
    return jnp.concatenate([cube, now.cube_yaw[None], goal])


def privileged_size(config: TabletopConfig) -> int:
    """Length of `privileged`."""
    return PROPRIO_SIZE + GROUNDING_SIZE + 7 + 3 * config.cubes + 7


def privileged(
    config: TabletopConfig, world: World, now: View, steps: Int[Array, ""]
) -> Float[Array, " Q"]:
    """True state for critics: what the policy has to infer from pixels, velocities and time."""
    others = (now.cubes - now.tcp) / UNIT
    lag = (world.control.position - now.tcp) / UNIT
    flags = jnp.stack(
        [
            now.held,
            now.height / config.lift_height,
            world.lifted,
            jnp.tanh(jnp.linalg.norm(now.cube - now.tcp) / UNIT),
            jnp.linalg.norm(now.cube[:2] - now.tcp[:2]) / UNIT,
            now.cube_yaw - now.yaw,
            steps / config.horizon,
        ]
    )
    arm = world.physics.qvel[:7]
    parts = [proprio(world, now), grounding(now), flags, others.ravel(), lag, arm[:4]]
    return jnp.clip(jnp.concatenate(parts), -10.0, 10.0)
