"""Success and the shaped potential, on worlds written by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from loomax.envs.control.arm import ControlState
from loomax.envs.physics import mjx as physics
from loomax.envs.scene.panda import HOME
from loomax.envs.scene.table import CUBE_HALF
from loomax.envs.tabletop.config import TabletopConfig
from loomax.envs.tabletop.task import lifted, potential, succeeded
from loomax.envs.tabletop.world import View, World, grasp_yaw, view

GOAL = (0.6, 0.1)


def looked(cube=(0.5, 0.0, CUBE_HALF), tcp=(0.5, 0.0, 0.2), opening=0.08, held=0.0) -> View:
    """What would be read off a world with one cube."""
    cube = jnp.array(cube)
    return View(
        tcp=jnp.array(tcp),
        yaw=jnp.zeros(()),
        opening=jnp.float32(opening),
        cubes=cube[None],
        cube=cube,
        cube_yaw=jnp.zeros(()),
        height=cube[2] - CUBE_HALF,
        held=jnp.float32(held),
        goal=jnp.array(GOAL),
    )


def world(grip=-1.0, was_lifted=0.0, qpos=None, target=0, cubes=1) -> World:
    """A world at rest; positions default to the home pose and a cube at the goal."""
    if qpos is None:
        qpos = [*HOME, 0.04, 0.04, *GOAL, CUBE_HALF, 1.0, 0.0, 0.0, 0.0]
    control = ControlState(
        jnp.array([0.5, 0.0, 0.2]), jnp.zeros(()), jnp.array(HOME), jnp.float32(grip)
    )
    return World(
        physics=physics.initial(jnp.array(qpos, jnp.float32), 9 + 6 * cubes),
        control=control,
        cube_colours=jnp.arange(cubes),
        disc_colours=jnp.arange(1),
        discs=jnp.array([GOAL]),
        target=jnp.int32(target),
        goal=jnp.int32(0),
        lifted=jnp.float32(was_lifted),
    )


@pytest.mark.parametrize(("height", "expected"), [(0.039, False), (0.041, True)])
def test_pick_succeeds_above_the_lift_height(height, expected):
    config = TabletopConfig(task="pick", lift_height=0.04)
    now = looked(cube=(0.5, 0.0, CUBE_HALF + height))
    assert bool(lifted(config, now)) is bool(succeeded(config, world(), now)) is expected


@pytest.mark.parametrize(("offset", "expected"), [(0.0, True), (0.019, True), (0.021, False)])
def test_reach_succeeds_three_centimetres_above_the_cube(offset, expected):
    config = TabletopConfig(task="reach")
    now = looked(tcp=(0.5 + offset, 0.0, CUBE_HALF + 0.03))
    assert bool(succeeded(config, world(), now)) is expected


PLACED = dict(cube=(GOAL[0] + 0.03, GOAL[1], CUBE_HALF + 0.002), opening=0.08)


@pytest.mark.parametrize(
    ("change", "state", "expected"),
    [
        ({}, {}, True),
        ({"cube": (GOAL[0] + 0.041, GOAL[1], CUBE_HALF)}, {}, False),  # beside the disc
        ({"cube": (*GOAL, CUBE_HALF + 0.013)}, {}, False),  # still in the air
        ({"opening": 0.05}, {}, False),  # not yet open
        ({}, {"grip": 1.0}, False),  # about to close
        ({}, {"was_lifted": 0.0}, False),  # pushed there
    ],
)
def test_placing_needs_every_condition(change, state, expected):
    config = TabletopConfig(task="pick-place")
    now = looked(**(PLACED | change))
    told = world(**({"was_lifted": 1.0} | state))
    assert bool(succeeded(config, told, now)) is expected


@pytest.mark.parametrize("task", ["reach", "pick", "pick-place"])
def test_potential_lies_between_nought_and_one(task):
    config = TabletopConfig(task=task)
    rng = np.random.default_rng(0)
    values = []
    for _ in range(50):
        now = looked(
            cube=rng.uniform((0.3, -0.3, 0.0), (0.7, 0.3, 0.3)),
            tcp=rng.uniform((0.3, -0.3, 0.0), (0.7, 0.3, 0.3)),
            held=float(rng.integers(2)),
        )
        values.append(float(potential(config, world(was_lifted=rng.integers(2)), now)))
    assert min(values) >= 0.0 and max(values) <= 1.0 and max(values) - min(values) > 0.1


def test_potential_rises_along_the_task():
    config = TabletopConfig(task="pick-place")
    far = looked(tcp=(0.4, -0.2, 0.3))
    near = looked(tcp=(0.5, 0.0, CUBE_HALF + 0.01))
    held = looked(tcp=(0.5, 0.0, CUBE_HALF), held=1.0)
    up = looked(cube=(0.5, 0.0, 0.08), tcp=(0.5, 0.0, 0.08), held=1.0)
    over = looked(cube=(*GOAL, 0.08), tcp=(*GOAL, 0.08), held=1.0)
    values = [float(potential(config, world(), now)) for now in (far, near, held)]
    values += [float(potential(config, world(was_lifted=1.0), now)) for now in (up, over)]
    assert (np.diff(values) > 0.02).all()


def test_grasp_yaw_is_taken_modulo_a_quarter_turn():
    for turn in np.linspace(-3, 3, 25):
        yaw = float(grasp_yaw(jnp.array([np.cos(turn / 2), 0.0, 0.0, np.sin(turn / 2)])))
        assert -np.pi / 4 - 1e-5 <= yaw <= np.pi / 4 + 1e-5
        assert np.sin(2 * (turn - yaw)) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("opening", "grip", "offset", "held"),
    [
        (0.040, 1.0, 0.0, 1.0),
        (0.040, -1.0, 0.0, 0.0),  # commanded open
        (0.080, 1.0, 0.0, 0.0),  # not yet closed
        (0.005, 1.0, 0.0, 0.0),  # closed on nothing
        (0.040, 1.0, 0.04, 0.0),  # the cube is elsewhere
    ],
)
def test_held(opening, grip, offset, held):
    tcp = view(world()).tcp
    cube = [float(tcp[0]) + offset, float(tcp[1]), float(tcp[2]), 1.0, 0.0, 0.0, 0.0]
    now = view(world(grip=grip, qpos=[*HOME, opening / 2, opening / 2, *cube]))
    assert float(now.held) == held
    assert float(now.opening) == pytest.approx(opening)


def test_the_view_is_of_the_named_cube():
    cubes = [(0.4, 0.1, 0.02), (0.6, -0.1, 0.07)]
    qpos = [*HOME, 0.04, 0.04]
    for xyz in cubes:
        qpos += [*xyz, 1.0, 0.0, 0.0, 0.0]
    for target in range(2):
        now = view(world(qpos=qpos, target=target, cubes=2))
        np.testing.assert_allclose(now.cube, cubes[target])
        assert float(now.height) == pytest.approx(cubes[target][2] - CUBE_HALF, abs=1e-6)
        np.testing.assert_allclose(now.goal, GOAL)
