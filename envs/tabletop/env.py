"""The tabletop environment: scene, control, physics and task behind reset, step and render."""

import copy
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from loomax.envs.control.arm import ControlState, move_target, servo_targets
from loomax.envs.control.config import ACTION_SIZE
from loomax.envs.control.ik import solve_poses
from loomax.envs.physics import mjx as physics
from loomax.envs.render import RenderScene, render_rgb
from loomax.envs.scene.panda import FINGER_TRAVEL
from loomax.envs.scene.table import CUBE_HALF, DISC_HALF_HEIGHT, Ids, TableScene, build
from loomax.envs.tabletop import observation
from loomax.envs.tabletop.config import CUBE_COLOURS, DISC_COLOURS, TabletopConfig
from loomax.envs.tabletop.expert import expert
from loomax.envs.tabletop.pointing import Pointing, project
from loomax.envs.tabletop.task import lifted, potential, succeeded
from loomax.envs.tabletop.world import YAW, View, World, scatter, view
from loomax.envs.types import State

START, START_SPREAD = (0.45, 0.0, 0.20), (0.04, 0.06, 0.03)
# Start poses of the arm are drawn once; evaluation has a pool of its own.
POOL_SEED, HELD_OUT_POOL_SEED = 7, 8
RGBA = {
    "red": (0.85, 0.12, 0.10, 1.0),
    "green": (0.10, 0.65, 0.18, 1.0),
    "blue": (0.12, 0.25, 0.85, 1.0),
    "yellow": (0.92, 0.80, 0.10, 1.0),
    "purple": (0.55, 0.15, 0.65, 1.0),
    "white": (0.95, 0.95, 0.95, 1.0),
    "cyan": (0.10, 0.75, 0.80, 1.0),
}


def start_poses(config: TabletopConfig, seed: int = POOL_SEED) -> tuple[np.ndarray, np.ndarray]:
    """Joint angles [P, 7] and tool positions [P, 3] that episodes start from."""
    rng = np.random.default_rng(seed)
    offset = rng.uniform(-1, 1, (config.pool, 3)) * np.array(START_SPREAD)
    place = np.array(START) + offset
    return solve_poses(config.control, place, np.zeros(config.pool)), place


class Tabletop:
    """Tabletop manipulation; see `TabletopConfig` for the tasks."""

    action_size = ACTION_SIZE
    proprio_size = observation.PROPRIO_SIZE
    # Roll and pitch of the action are ignored by the controller.
    active_dims = (0, 1, 2, 5, 6)

    def __init__(self, config: TabletopConfig):
        self.config = config
        self.horizon = config.horizon
        self.instructions = config.instructions
        self.privileged_size = observation.privileged_size(config)
        self.scene = TableScene(cubes=config.cubes, discs=config.discs)
        self.mj_model = build(self.scene)
        self.model = physics.put(self.mj_model)
        self.ids = Ids.of(self.mj_model, self.scene)
        self._start_from(*start_poses(config))
        sizes = {"scene": config.image_size, "wrist": config.wrist_size}
        self.cameras = {
            name: RenderScene.from_mujoco(self.mj_model, name, sizes[name], sizes[name])
            for name in config.cameras
        }

    def _start_from(self, joints: np.ndarray, places: np.ndarray) -> None:
        self._joints, self._places = joints.astype(np.float32), places.astype(np.float32)

    def held_out(self) -> "Tabletop":
        """The same world, whose arm starts from other poses than those of this one."""
        other = copy.copy(self)
        other._start_from(*start_poses(self.config, HELD_OUT_POOL_SEED))
        return other

    def for_video(self, pixels: int) -> "Tabletop":
        """The same world with one image, of the scene."""
        return Tabletop(replace(self.config, image_size=pixels, cameras=("scene",)))

    # ------------------------------------------------------------------------------- reset

    def reset(self, *, key: Key[Array, ""]) -> State:
        """Fresh layout, colours, instruction and start pose."""
        world = self._draw(key)
        return self._state(world, view(world), jnp.zeros((), jnp.int32))

    def _draw(self, key: Key[Array, ""]) -> World:
        config, (n, m) = self.config, (self.config.cubes, self.config.discs)
        keys = jax.random.split(key, 7)
        layout = scatter(n + m, key=keys[0])
        turn = 0.5 * jax.random.uniform(keys[1], (n,), minval=-YAW, maxval=YAW)
        zero = jnp.zeros((n,))
        cubes = jnp.stack(
            [layout[:n, 0], layout[:n, 1], zero + CUBE_HALF, jnp.cos(turn), zero, zero]
            + [jnp.sin(turn)],
            axis=-1,
        )
        pose = jax.random.randint(keys[2], (), 0, config.pool)
        joints = jnp.asarray(self._joints)[pose]
        fingers = jnp.full((2,), FINGER_TRAVEL)
        qpos = jnp.concatenate([joints, fingers, cubes.ravel()]).astype(jnp.float32)
        control = ControlState(
            jnp.asarray(self._places)[pose], jnp.zeros(()), joints, -jnp.ones(())
        )
        return World(
            physics=physics.initial(qpos, self.mj_model.nv),
            control=control,
            cube_colours=jax.random.permutation(keys[3], len(CUBE_COLOURS))[:n],
            disc_colours=jax.random.permutation(keys[4], len(DISC_COLOURS))[:m],
            discs=layout[n:],
            target=jax.random.randint(keys[5], (), 0, n),
            goal=jax.random.randint(keys[6], (), 0, max(m, 1)),
            lifted=jnp.zeros(()),
        )

    def relabel(self, state: State, *, key: Key[Array, ""]) -> State:
        """The same world under another instruction that it allows."""
        cube_key, disc_key = jax.random.split(key)
        world = state.data.replace(
            target=jax.random.randint(cube_key, (), 0, self.config.cubes),
            goal=jax.random.randint(disc_key, (), 0, max(self.config.discs, 1)),
        )
        return state.replace(data=world, obs=self._observe(world, view(world), state.info["steps"]))

    # -------------------------------------------------------------------------------- step

    def step(self, state: State, action: Float[Array, "7"]) -> State:
        """One control step of 50 ms."""
        config, world = self.config, state.data
        before = potential(config, world, view(world))
        control = move_target(config.control, world.control, action)
        commands = servo_targets(world.control, control, self.scene.substeps)
        world = world.replace(
            physics=physics.step(self.model, world.physics, commands), control=control
        )
        now = view(world)
        world = world.replace(
            lifted=jnp.maximum(world.lifted, lifted(config, now).astype(jnp.float32))
        )
        success = succeeded(config, world, now).astype(jnp.float32)
        first = success * (1 - state.info["success"])
        reward = first
        if config.reward == "shaped":
            reward = reward + potential(config, world, now) - before
        steps = state.info["steps"] + 1
        return self._state(world, now, steps, reward, jnp.maximum(success, state.info["success"]))

    def _state(self, world: World, now: View, steps, reward=0.0, success=0.0) -> State:
        terminated = jnp.asarray(success, jnp.float32)
        truncated = (steps >= self.horizon).astype(jnp.float32) * (1 - terminated)
        return State(
            data=world,
            obs=self._observe(world, now, steps),
            reward=jnp.asarray(reward, jnp.float32),
            done=jnp.maximum(terminated, truncated),
            metrics={"height": now.height, "held": now.held},
            info={
                "steps": steps,
                "terminated": terminated,
                "truncated": truncated,
                "success": terminated,
            },
        )

    def _observe(self, world: World, now: View, steps) -> dict[str, Array]:
        return {
            "proprio": observation.proprio(world, now),
            "instruction": observation.instruction(world),
            "privileged": observation.privileged(self.config, world, now, steps),
            "grounding": observation.grounding(now),
        }

    def expert(self, state: State) -> Float[Array, "7"]:
        """The scripted expert's action."""
        return expert(self.config, state.data, view(state.data))

    def pointing(self, state: State) -> dict[str, Pointing]:
        """Where the named cube (and disc) appear, by camera."""
        now = view(state.data)
        things = now.cube[None]
        if self.config.discs:
            things = jnp.stack([now.cube, jnp.append(now.goal, 0.0)])
        poses = physics.poses(self.model, state.data.physics.qpos)
        return {name: project(scene, poses, things) for name, scene in self.cameras.items()}

    # ------------------------------------------------------------------------------ render

    def render(self, state: State) -> dict[str, Array]:
        """Images of the configured cameras, u8[S, S, 3]."""
        world = state.data
        poses = physics.poses(self.model, world.physics.qpos)
        geom_pos, rgba = poses.geom_pos, jnp.asarray(self.mj_model.geom_rgba, jnp.float32)
        cubes = jnp.array([RGBA[name] for name in CUBE_COLOURS])[world.cube_colours]
        rgba = rgba.at[jnp.array(self.ids.cubes)].set(cubes)
        if self.config.discs:
            discs = jnp.array([RGBA[name] for name in DISC_COLOURS])[world.disc_colours]
            rgba = rgba.at[jnp.array(self.ids.discs)].set(discs)
            height = jnp.full((self.config.discs, 1), DISC_HALF_HEIGHT)
            place = jnp.concatenate([world.discs, height], axis=-1)
            geom_pos = geom_pos.at[jnp.array(self.ids.discs)].set(place)
        return {
            name: render_rgb(
                scene,
                geom_pos,
                poses.geom_mat,
                rgba,
                poses.cam_pos[scene.camera],
                poses.cam_mat[scene.camera],
            )
            for name, scene in self.cameras.items()
        }
