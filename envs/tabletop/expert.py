"""A scripted expert: what to do now as a function of the state alone, so it recovers by itself."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from loomax.envs.scene.table import CUBE_HALF
from loomax.envs.tabletop.config import TabletopConfig
from loomax.envs.tabletop.world import View, World

HOVER = 0.07
CARRY = 0.08
ALIGNED = 0.012
AT_HEIGHT = 0.010
GRASP_LOW = 0.004
OVER_DISC = 0.015


def towards(config: TabletopConfig, world: World, place: Array, yaw: Array, grip: Array) -> Array:
    """The action that moves the target pose to a place, as far as one action goes."""
    control = config.control
    step = (place - world.control.position) / control.position_scale
    turn = (yaw - world.control.yaw) / control.rotation_scale
    zero = jnp.zeros(())
    action = jnp.concatenate([step, jnp.stack([zero, zero, turn, grip])])
    return jnp.clip(action, -1.0, 1.0)


def grasp(config: TabletopConfig, world: World, now: View) -> Float[Array, "7"]:
    """Above the cube, down with open fingers, close."""
    away = jnp.linalg.norm(now.cube[:2] - now.tcp[:2])
    aligned = (away < ALIGNED) & (jnp.abs(now.cube_yaw - now.yaw) < 0.15)
    bottom = now.cube[2] - GRASP_LOW
    there = aligned & (now.tcp[2] < bottom + AT_HEIGHT)
    low = now.tcp[2] < now.cube[2] + CUBE_HALF + 0.02
    # Sideways only above the cubes, or the fingers would push them about.
    stay = low & (away > 0.03)
    height = jnp.where(aligned, bottom, now.cube[2] + HOVER)
    xy = jnp.where(stay, now.tcp[:2], now.cube[:2])
    place = jnp.concatenate([xy, height[None]])
    return towards(config, world, place, now.cube_yaw, jnp.where(there, 1.0, -1.0))


def carry(config: TabletopConfig, world: World, now: View) -> Float[Array, "7"]:
    """Up, over the disc, down, open."""
    away = jnp.linalg.norm(now.cube[:2] - now.goal)
    offset = now.cube[:2] - now.tcp[:2]
    over = away < OVER_DISC
    raised = now.height > 0.75 * config.lift_height
    height = jnp.where(over & (world.lifted > 0), CUBE_HALF - GRASP_LOW + 0.004, CUBE_HALF + CARRY)
    xy = jnp.where(raised | over, now.goal - offset, now.tcp[:2])
    release = over & (world.lifted > 0) & (now.height < 0.010)
    place = jnp.concatenate([xy, height[None]])
    return towards(config, world, place, world.control.yaw, jnp.where(release, -1.0, 1.0))


def expert(config: TabletopConfig, world: World, now: View) -> Float[Array, "7"]:
    """The action for this state."""
    if config.task == "reach":
        above = now.cube + jnp.array([0.0, 0.0, CUBE_HALF + 0.01])
        return towards(config, world, above, now.yaw, jnp.float32(-1.0))
    held = now.held > 0
    if config.task == "pick":
        up = now.tcp + jnp.array([0.0, 0.0, CARRY])
        lift = towards(config, world, up, world.control.yaw, jnp.float32(1.0))
        return jnp.where(held, lift, grasp(config, world, now))
    placed = (world.lifted > 0) & (now.height < 0.012)
    placed &= jnp.linalg.norm(now.cube[:2] - now.goal) < config.place_radius
    open_up = towards(config, world, now.tcp, world.control.yaw, jnp.float32(-1.0))
    free = jnp.where(placed, open_up, grasp(config, world, now))
    return jnp.where(held, carry(config, world, now), free)
