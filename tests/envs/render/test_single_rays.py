"""Depths that can be worked out by hand: one primitive, the camera on the +x axis looking back."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from loomax.envs.render import RenderScene, render

# Camera frame: x right = +y, y up = +z, z backwards = +x.
LOOK_BACK = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0.0]])
SIDE = 9
MIDDLE = SIDE // 2


def scene_of(geom: str, **options):
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><visual><map znear=".01" zfar="50"/></visual><statistic extent="1"/><worldbody>'
        f'<camera name="eye" fovy="60"/><geom {geom}/></worldbody></mujoco>'
    )
    return RenderScene.from_mujoco(model, "eye", SIDE, SIDE, **options)


def shoot(scene, x, mat=None, rgba=None, cam_mat=LOOK_BACK, size=None):
    arrays = (np.zeros((1, 3)), (np.eye(3) if mat is None else mat)[None])
    pos, mat, cam, cam_mat = (
        jnp.asarray(a, jnp.float32) for a in (*arrays, np.array([x, 0, 0]), cam_mat)
    )
    return jax.jit(lambda *a: render(scene, *a, rgba, cam, cam_mat, size=size))(pos, mat)


CASES = {
    "sphere": ('type="sphere" size=".25"', None, 0.25),
    "ellipsoid": ('type="ellipsoid" size=".25 .5 .3"', None, 0.25),
    "box": ('type="box" size=".25 .5 .3"', None, 0.25),
    "cylinder side": ('type="cylinder" size=".25 .3"', None, 0.25),
    "cylinder cap": ('type="cylinder" size=".25 .3"', "up", 0.3),
    "capsule side": ('type="capsule" size=".25 .3"', None, 0.25),
    "capsule end": ('type="capsule" size=".25 .3"', "up", 0.55),
    "plane": ('type="plane" size="1 1 .1"', "up", 0.0),
}
# Local z along world x.
Z_TO_X = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0.0]])


@pytest.mark.parametrize("name", CASES)
def test_central_ray(name):
    geom, turned, reach = CASES[name]
    mat = Z_TO_X if turned else None
    frame = shoot(scene_of(geom), 2.0, mat)
    assert frame.segmentation[MIDDLE, MIDDLE] == 0
    np.testing.assert_allclose(frame.depth[MIDDLE, MIDDLE], 2 - reach, rtol=1e-6)
    np.testing.assert_allclose(frame.normals[MIDDLE, MIDDLE], [1, 0, 0], atol=1e-6)
    # Far enough off the axis every ray misses; the plane here is 2 m wide and seen to 1.02 m.
    if name != "plane":
        assert frame.segmentation[0, 0] == -1
        np.testing.assert_allclose(frame.depth[0, 0], 50, rtol=1e-6)
        assert (frame.normals[0, 0] == 0).all()


@pytest.mark.parametrize("name", [name for name in CASES if name != "plane"])
@pytest.mark.parametrize("x", [-2.0, 0.1])
def test_behind_and_inside_show_nothing(name, x):
    geom, turned, _ = CASES[name]
    frame = shoot(scene_of(geom), x, Z_TO_X if turned else None)
    assert (np.asarray(frame.segmentation) == -1).all()


def test_plane_has_a_front_and_edges():
    scene = scene_of('type="plane" size=".4 .4 .1"')
    front = shoot(scene, 1.0, Z_TO_X)
    seen = np.asarray(front.segmentation) == 0
    # Rays at u = k * tan(30 deg) * 2 / 9, depth 1.
    offset = np.abs(np.arange(SIDE) - MIDDLE) * np.tan(np.radians(30)) * 2 / SIDE
    np.testing.assert_array_equal(seen, (offset <= 0.4)[:, None] & (offset <= 0.4)[None])
    assert 1 < seen.sum() < seen.size
    back = shoot(scene, 1.0, Z_TO_X @ np.diag([1.0, -1, -1]))
    assert (np.asarray(back.segmentation) == -1).all()


def test_nearer_than_near_is_clipped():
    scene = scene_of('type="box" size=".25 .25 .25"')
    assert scene.near == pytest.approx(0.01)
    assert shoot(scene, 0.25 + 0.011).segmentation[MIDDLE, MIDDLE] == 0
    assert shoot(scene, 0.25 + 0.009).segmentation[MIDDLE, MIDDLE] == -1


@pytest.mark.parametrize("name", CASES)
def test_transparent_geoms_are_left_out(name):
    geom, turned, _ = CASES[name]
    scene, mat = scene_of(geom), Z_TO_X if turned else None
    clear = shoot(scene, 2.0, mat, rgba=jnp.zeros((1, 4)))
    assert (np.asarray(clear.segmentation) == -1).all()
    red = shoot(scene, 2.0, mat, rgba=jnp.array([[1.0, 0, 0, 0.5]]))
    assert red.rgb[MIDDLE, MIDDLE, 0] > 100 and (red.rgb[MIDDLE, MIDDLE, 1:] == 0).all()


def test_size_can_be_replaced_and_may_be_zero():
    scene = scene_of('type="box" size=".25 .25 .25"')
    grown = shoot(scene, 2.0, size=jnp.array([[0.5, 0.1, 0.1]]))
    np.testing.assert_allclose(grown.depth[MIDDLE, MIDDLE], 1.5, rtol=1e-6)
    for geom in ("box", "cylinder", "capsule", "sphere", "ellipsoid"):
        gone = shoot(scene_of(f'type="{geom}" size=".25 .25 .25"'), 2.0, size=jnp.zeros((1, 3)))
        assert (np.asarray(gone.segmentation) == -1).sum() >= SIDE**2 - 1, geom
        assert np.isfinite(np.asarray(gone.normals)).all()


def test_camera_beside_a_long_tube_sees_its_end():
    """Inside the endless cylinder, in front of the cap: the wall must not hide the cap."""
    for kind, reach in (("cylinder", 0.3), ("capsule", 0.55)):
        frame = shoot(scene_of(f'type="{kind}" size=".25 .3"'), 0.6, Z_TO_X)
        np.testing.assert_allclose(frame.depth[MIDDLE, MIDDLE], 0.6 - reach, rtol=1e-5)
        np.testing.assert_allclose(frame.normals[MIDDLE, MIDDLE], [1, 0, 0], atol=1e-5)
