"""The state of a tabletop world, and what is read off it.

Axes: N cubes, M discs.
"""

from typing import no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Key

from loomax.envs.control.arm import ControlState
from loomax.envs.control.kinematics import forward, yaw_of
from loomax.envs.physics.state import PhysicsState
from loomax.envs.scene.table import CUBE_HALF, cube_qpos

# Cubes start in this rectangle (metres), at least this far apart.
LOW, HIGH = (0.40, -0.20), (0.62, 0.20)
APART = 0.105
YAW = 0.5
LAYOUTS, PROPOSALS = 6, 16


@struct.dataclass
@no_type_check  # the same fields, batched, hold more axes
class World:
    """What the simulator, the controller and the task carry.

    Attributes:
        cube_colours: indices into CUBE_COLOURS.
        disc_colours: indices into DISC_COLOURS.
        discs: disc centres in metres.
        target, goal: the named cube's and disc's slots.
        lifted: 1 once the named cube has been lifted.
    """

    physics: PhysicsState
    control: ControlState
    cube_colours: Int[Array, " N"]
    disc_colours: Int[Array, " M"]
    discs: Float[Array, "M 2"]
    target: Int[Array, ""]
    goal: Int[Array, ""]
    lifted: Float[Array, ""]


@struct.dataclass
@no_type_check  # the same fields, batched, hold more axes
class View:
    """Task quantities of a world, in metres and radians.

    Attributes:
        height: of the named cube above rest.
        opening: gap between the finger pads.
        held: 1 if the named cube is between closed pads.
        goal: centre of the named disc (the cube itself where there are no discs).
    """

    tcp: Float[Array, "3"]
    yaw: Float[Array, ""]
    opening: Float[Array, ""]
    cubes: Float[Array, "N 3"]
    cube: Float[Array, "3"]
    cube_yaw: Float[Array, ""]
    height: Float[Array, ""]
    held: Float[Array, ""]
    goal: Float[Array, "2"]


def cube_poses(qpos: Float[Array, " Q"], cubes: int) -> Float[Array, "N 7"]:
    """Position and quaternion of every cube."""
    return qpos[cube_qpos(0) : cube_qpos(cubes)].reshape(cubes, 7)


def grasp_yaw(quaternion: Float[Array, "4"]) -> Float[Array, ""]:
    """Yaw of a cube modulo a quarter turn, in [-pi/4, pi/4)."""
    w, x, y, z = quaternion
    yaw = jnp.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    quarter = jnp.pi / 2
    return yaw - quarter * jnp.floor(yaw / quarter + 0.5)


def view(world: World) -> View:
    """Reads the task quantities."""
    qpos = world.physics.qpos
    arm = forward(qpos[:7])
    poses = cube_poses(qpos, world.cube_colours.shape[0])
    named = poses[world.target]
    opening = qpos[7] + qpos[8]
    apart = jnp.abs(named[:3] - arm.tcp)
    between = (apart[:2].max() < 0.025) & (apart[2] < 0.025)
    closed = (world.control.grip > 0) & (opening < 0.05) & (opening > 0.02)
    goal = world.discs[world.goal] if world.discs.shape[0] else named[:2]
    return View(
        tcp=arm.tcp,
        yaw=yaw_of(arm),
        opening=opening,
        cubes=poses[:, :3],
        cube=named[:3],
        cube_yaw=grasp_yaw(named[3:]),
        height=named[2] - CUBE_HALF,
        held=(between & closed).astype(jnp.float32),
        goal=goal,
    )


def _spread(proposals: Float[Array, "C P 2"]) -> tuple[Float[Array, "C 2"], Float[Array, ""]]:
    """One thing after the other takes the first proposal that is far from those before it.

    Returns the layout, and its least distance (at most APART).
    """
    layout, least = proposals[0, :1], jnp.float32(APART)
    for places in proposals[1:]:
        gaps = jnp.linalg.norm(places[:, None] - layout[None], axis=-1).min(1)
        gaps = jnp.minimum(gaps, APART)
        choice = jnp.argmax(gaps)
        layout = jnp.concatenate([layout, places[choice][None]])
        least = jnp.minimum(least, gaps[choice])
    return layout, least


def scatter(count: int, *, key: Key[Array, ""]) -> Float[Array, "C 2"]:
    """Places `count` things on the table, apart from each other.

    Draws a fixed number of layouts and takes the first that is spread enough (or else the most
    spread one), so that it has one cost under `jit`.
    """
    shape = (LAYOUTS, count, PROPOSALS, 2)
    draws = jax.random.uniform(key, shape, minval=jnp.array(LOW), maxval=jnp.array(HIGH))
    layouts, least = jax.vmap(_spread)(draws)
    return layouts[jnp.argmax(least)]
