"""Poses from positions against MuJoCo's."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from loomax.envs.physics import kinematics
from loomax.envs.scene.panda import LOWER, UPPER
from loomax.envs.scene.table import TableScene, build, cube_qpos

NAMES = ("geom_pos", "geom_mat", "cam_pos", "cam_mat")


def expected(data: mujoco.MjData) -> dict[str, np.ndarray]:
    values = (data.geom_xpos, data.geom_xmat, data.cam_xpos, data.cam_xmat)
    return {
        name: value.reshape(-1, 3, 3) if name.endswith("mat") else value
        for name, value in zip(NAMES, values, strict=True)
    }


def assert_equal(poses, data: mujoco.MjData) -> None:
    for name, value in expected(data).items():
        np.testing.assert_allclose(getattr(poses, name), value, atol=2e-6, err_msg=name)


def test_the_table_at_random_positions():
    model = build(TableScene(cubes=2, discs=1))
    tree, rng = kinematics.read(model), np.random.default_rng(0)
    poses = jax.jit(lambda qpos: kinematics.poses(tree, qpos))
    for _ in range(3):
        data = mujoco.MjData(model)
        data.qpos[:7] = rng.uniform(LOWER, UPPER)
        data.qpos[7:9] = rng.uniform(0, 0.04, 2)
        for i in range(2):
            # The engine normalises quaternions, so they need not be unit here either.
            data.qpos[cube_qpos(i) :][:7] = [*rng.uniform(0, 0.5, 3), *rng.standard_normal(4)]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        assert_equal(poses(jnp.asarray(data.qpos, jnp.float32)), data)


ODD = """<mujoco><compiler angle="radian"/><worldbody>
<camera name="world" pos="1 2 3" euler=".1 .2 .3"/>
<body pos="1 2 3" euler=".3 .1 .2"><joint type="slide" axis="1 2 2" ref=".3"/><geom size=".1"/>
<body pos=".1 .2 .3"><geom size=".1" pos="0 .1 0"/>
<body euler="0 1 0"><joint type="hinge" axis="1 1 0" ref=".4"/><geom size=".1" pos=".2 0 0"/>
<camera name="tip" pos="0 0 .1" euler=".5 0 0"/></body></body></body></worldbody></mujoco>"""


def test_reference_positions_oblique_axes_and_fixed_bodies():
    model = mujoco.MjModel.from_xml_string(ODD)
    data = mujoco.MjData(model)
    data.qpos[:] = [0.7, -0.9]
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    assert_equal(kinematics.poses(kinematics.read(model), jnp.array([0.7, -0.9])), data)


@pytest.mark.parametrize(
    "joints",
    ['<joint type="ball"/>', '<joint axis="1 0 0"/><joint axis="0 1 0"/>', '<joint pos="0 0 1"/>'],
)
def test_refusals(joints):
    body = f'<body name="odd">{joints}<geom size=".1"/></body>'
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
    with pytest.raises(ValueError, match="'odd': give it at most one hinge, slide or free joint"):
        kinematics.read(model)
