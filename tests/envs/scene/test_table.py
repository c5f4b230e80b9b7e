"""The scene as MuJoCo compiles it."""

import mujoco
import numpy as np
import pytest

from loomax.envs.scene.panda import FINGER_TRAVEL, HOME
from loomax.envs.scene.table import (
    CUBE_HALF,
    CUBE_MASS,
    DISC_RADIUS,
    Ids,
    TableScene,
    build,
    cube_dof,
    cube_qpos,
)


def geom_names(model: mujoco.MjModel) -> list[str]:
    return [model.geom(i).name for i in range(model.ngeom)]


@pytest.mark.parametrize(("cubes", "discs"), [(1, 0), (2, 2), (4, 3)])
def test_coordinates_and_slots(cubes, discs):
    scene = TableScene(cubes=cubes, discs=discs)
    model = build(scene)
    assert (model.nq, model.nv, model.nu) == (9 + 7 * cubes, 9 + 6 * cubes, 9)
    for i in range(cubes):
        joint = model.joint(f"cube{i}")
        assert (joint.qposadr[0], joint.dofadr[0]) == (cube_qpos(i), cube_dof(i))
        assert model.body(f"cube{i}").mass[0] == pytest.approx(CUBE_MASS)
    ids = Ids.of(model, scene)
    names = geom_names(model)
    assert [names[i] for i in ids.cubes] == [f"cube{i}" for i in range(cubes)]
    assert [names[i] for i in ids.discs] == [f"disc{i}" for i in range(discs)]
    assert model.nmesh == 0 and model.opt.timestep == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cubes": 0}, "cubes=0"),
        ({"cubes": 5}, "cubes=5"),
        ({"discs": 4}, "discs=4"),
        ({"substeps": 0}, "substeps=0"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(ValueError, match=words):
        build(TableScene(**change))


def test_only_what_is_meant_can_touch():
    """Kinds of geoms that MuJoCo's filter lets collide."""
    model = build(TableScene(cubes=2, discs=1))
    kinds = set()
    for i in range(model.ngeom):
        for j in range(i + 1, model.ngeom):
            one, two = model.geom(i), model.geom(j)
            meet = (one.contype[0] & two.conaffinity[0]) | (two.contype[0] & one.conaffinity[0])
            if meet and one.bodyid[0] != two.bodyid[0]:
                pair = [name.strip("0123456789") for name in (one.name, two.name)]
                kinds.add(tuple(sorted(pair)))
    assert kinds == {
        ("cube", "table"),
        ("cube", "pad_left"),
        ("cube", "pad_right"),
        ("core", "core"),
    }


def settled(place: dict[int, tuple[float, float, float]], steps: int = 100, grip: float = 0.0):
    """Cubes put somewhere, the arm held at home; after some time."""
    model = build(TableScene(cubes=2, discs=1))
    data = mujoco.MjData(model)
    data.qpos[:7], data.ctrl[:7] = HOME, HOME
    data.ctrl[7:] = grip
    for i, xyz in place.items():
        data.qpos[cube_qpos(i) : cube_qpos(i) + 3] = xyz
    mujoco.mj_step(model, data, steps)
    return model, data


def test_cubes_rest_on_the_table_and_on_discs():
    model, data = settled({0: (0.5, 0.0, CUBE_HALF + 0.002), 1: (0.6, 0.2, CUBE_HALF)})
    heights = [data.qpos[cube_qpos(i) + 2] for i in range(2)]
    # The disc at (.5, 0) has no contact: both cubes lie on the table.
    np.testing.assert_allclose(heights, CUBE_HALF, atol=5e-4)
    assert np.abs(data.qvel).max() < 1e-2
    disc = model.geom("disc0")
    assert disc.size[0] == DISC_RADIUS and np.linalg.norm(disc.pos[:2] - [0.5, 0]) < 0.01


def test_the_arm_needs_no_force_to_stand_still():
    """Gravity of the arm is compensated, so servos without load do not sag."""
    _, data = settled({})
    np.testing.assert_allclose(data.qpos[:7], HOME, atol=1e-6)


def test_fingers_open_and_close():
    for command in (0.0, FINGER_TRAVEL):
        _, data = settled({}, steps=60, grip=command)
        np.testing.assert_allclose(data.qpos[7:9], command, atol=2e-4)


def test_cubes_do_not_pass_through_each_other():
    _, data = settled({0: (0.50, 0.0, CUBE_HALF), 1: (0.53, 0.0, CUBE_HALF)})
    gap = np.linalg.norm(data.qpos[cube_qpos(0) :][:3] - data.qpos[cube_qpos(1) :][:3])
    assert gap > 2 * CUBE_HALF - 1e-3


def test_wrist_camera_looks_between_the_fingers():
    model, data = settled({}, steps=1)
    camera, hand = data.camera("wrist"), data.body("hand")
    tcp = hand.xpos + hand.xmat.reshape(3, 3) @ np.array([0, 0, 0.1034])
    local = camera.xmat.reshape(3, 3).T @ (tcp - camera.xpos)
    half = np.tan(np.radians(model.camera("wrist").fovy[0] / 2))
    assert local[2] < 0
    assert np.abs(local[:2] / -local[2]).max() < 0.5 * half
