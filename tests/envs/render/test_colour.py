"""Light, patterns, shadows, and that all ways through the renderer paint the same picture."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from loomax.envs.render import Checker, Lighting, RenderScene, render, render_rgb

XML = """
<mujoco>
  <asset><material name="blue" rgba="0 0 1 1"/></asset>
  <worldbody>
    <camera name="top" pos="0 0 3" fovy="45"/>
    <camera name="side" pos="2 0 .8" xyaxes="0 1 0 -.3 0 .95" fovy="45"/>
    <geom name="floor" type="plane" size="0 0 .1" rgba=".8 .8 .8 1"/>
    <geom name="ball" type="sphere" size=".2" pos="0 0 .6" rgba="1 0 0 1"/>
    <geom name="egg" type="ellipsoid" size=".1 .2 .15" pos="0 .6 .3" material="blue"/>
    <geom name="brick" type="box" size=".1 .2 .1" pos="0 -.6 .1" rgba="0 1 0 1"/>
    <geom name="rod" type="capsule" size=".05 .2" pos=".4 0 .3" rgba="1 1 0 1"/>
    <geom name="can" type="cylinder" size=".1 .1" pos="-.4 0 .1" rgba="0 1 1 1"/>
    <geom name="helper" type="box" size="1 1 1" group="3"/>
  </worldbody>
</mujoco>
"""
FROM_ABOVE = Lighting(direction=(0.0, 0.0, 2.0), ambient=0.4, diffuse=0.6)


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_string(XML)


def poses(model, camera):
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    eye = model.camera(camera).id
    geom = (data.geom_xpos, data.geom_xmat.reshape(-1, 3, 3))
    cam = (data.cam_xpos[eye], data.cam_xmat[eye].reshape(3, 3))
    geom, cam = ([jnp.asarray(x, jnp.float32) for x in pair] for pair in (geom, cam))
    return *geom, None, *cam


def picture(model, camera="top", side=32, shadow=False, **options):
    options.setdefault("lighting", FROM_ABOVE)
    scene = RenderScene.from_mujoco(model, camera, side, side, **options)
    return jax.jit(lambda *a: render(scene, *a, shadow=shadow))(*poses(model, camera))


def test_lambert_and_materials(model):
    frame = picture(model)
    ids, rgb = np.asarray(frame.segmentation), np.asarray(frame.rgb) / 255
    base = np.array([[0.8, 0.8, 0.8], [1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 0], [0, 1, 1]])
    cosine = np.clip(np.asarray(frame.normals)[..., 2], 0, 1)
    expected = base[ids] * (0.4 + 0.6 * cosine)[..., None]
    np.testing.assert_allclose(rgb, expected, atol=1.01 / 255)
    assert set(np.unique(ids)) == {0, 1, 2, 3, 4, 5}


def test_hard_shadow_of_a_ball(model):
    """Light from straight above: the ball at 0.6 m shades exactly the disc of its own radius."""
    hidden = ("egg", "brick", "rod", "can")
    options = {"hidden_geoms": hidden, "side": 48, "camera": "side"}
    dark, plain = (picture(model, shadow=shadow, **options) for shadow in (True, False))
    scene = RenderScene.from_mujoco(model, "side", 48, 48)
    u, v = scene.pixel_rays()
    _, _, _, cam_pos, cam_mat = poses(model, "side")
    rays = np.stack([u, v, -np.ones_like(u)], -1) @ np.asarray(cam_mat).T
    point = np.asarray(cam_pos) + rays * np.asarray(plain.depth)[..., None]
    floor = np.asarray(plain.segmentation) == 0
    radius = np.hypot(point[..., 0], point[..., 1])
    ratio = np.asarray(dark.rgb, float)[..., 0] / np.asarray(plain.rgb, float)[..., 0].clip(1)
    np.testing.assert_allclose(ratio[floor & (radius < 0.198)], 0.4, atol=0.01)
    np.testing.assert_allclose(ratio[floor & (radius > 0.202) & (radius < 3)], 1, atol=0.01)
    assert (floor & (radius < 0.198)).sum() > 10


def test_everything_casts_a_shadow_but_not_on_its_lit_side(model):
    """A convex geom shades the floor where the light's line through its centre meets it."""
    light = Lighting(direction=(2.0, 1.0, 1.0))
    dark, plain = (
        picture(model, side=64, shadow=s, lighting=light, hidden_geoms=["ball"])
        for s in (True, False)
    )
    changed = (np.asarray(dark.rgb, int) < np.asarray(plain.rgb, int) - 5).any(-1)
    ids = np.asarray(plain.segmentation)
    for name in ("egg", "brick", "rod", "can"):
        x, y, z = model.geom(name).pos
        spot = np.array([x - 2 * z, y - z]) / (3 * np.tan(np.radians(22.5)))
        row, column = int((1 - spot[1]) * 32), int((1 + spot[0]) * 32)
        assert ids[row, column] == 0 and changed[row, column], name
    direction = np.array(light.direction) / np.linalg.norm(light.direction)
    lit = (np.asarray(plain.normals) @ direction > 0.1) & (ids > 0)
    assert lit.sum() > 50 and not (changed & lit).any()
    assert (changed & (ids == 0)).mean() < 0.2


def test_checker_has_cells_of_its_size(model):
    hidden = ("ball", "egg", "brick", "rod", "can")
    marks = [Checker("floor", rgb=(0.0, 0.0, 0.0), cell=0.5)]
    frame = picture(model, side=64, hidden_geoms=hidden, checkers=marks)
    grid = ((np.arange(64) + 0.5) / 32 - 1) * np.tan(np.radians(22.5)) * 3
    x, y = np.meshgrid(grid, -grid)
    odd = (np.floor(x / 0.5) + np.floor(y / 0.5)) % 2 == 1
    np.testing.assert_array_equal(np.asarray(frame.rgb)[..., 0], np.where(odd, 0, 204))


def test_sky_is_a_vertical_gradient(model):
    light = Lighting(sky_low=(0.0, 0.5, 1.0), sky_high=(1.0, 0.5, 0.0))
    everything = ("floor", "ball", "egg", "brick", "rod")
    frame = picture(model, "side", hidden_geoms=everything, lighting=light)
    sky = np.asarray(frame.rgb, int)[:, 0]
    assert (np.diff(sky[:, 0]) <= 0).all() and sky[0, 0] > sky[-1, 0] + 50
    assert (sky[:, 1] == 128).all()
    np.testing.assert_allclose(sky[:, 0] + sky[:, 2], 255, atol=1)


@pytest.mark.parametrize("shadow", [False, True])
@pytest.mark.parametrize("hidden", [(), ("egg",)])
def test_rgb_only_equals_full_frame(model, shadow, hidden):
    """With an ellipsoid (general normals) and without (one number a surface)."""
    args = poses(model, "side")
    scene = RenderScene.from_mujoco(model, "side", 33, 32, hidden_geoms=hidden)
    full = jax.jit(lambda *a: render(scene, *a, shadow=shadow).rgb)(*args)
    fast = jax.jit(lambda *a: render_rgb(scene, *a, shadow=shadow))(*args)
    assert fast.shape == (32, 33, 3) and fast.dtype == jnp.uint8
    different = np.abs(np.asarray(full, int) - np.asarray(fast, int)).max(-1)
    assert (different > 1).mean() < 2e-3


def test_fetches_and_loops_agree(model):
    """Gather or one-hot product, vmap or lax.map: the same bytes."""
    scene = RenderScene.from_mujoco(model, "side", 16, 16)
    args = poses(model, "side")
    batch = jax.tree.map(lambda x: jnp.stack([x, x * 1.01]), (args[0], args[3]))

    def one(fetch):
        return lambda xs: render_rgb(scene, xs[0], args[1], None, xs[1], args[4], fetch=fetch)

    frames = [
        jax.jit(lambda b, f=f: jax.lax.map(one(f), b))(batch) for f in ("gather", "onehot")
    ] + [jax.jit(jax.vmap(one("gather")))(batch)]
    for frame in frames[1:]:
        assert np.abs(np.asarray(frames[0], int) - np.asarray(frame, int)).max() <= 1
    assert (np.asarray(frames[0][0]) != np.asarray(frames[0][1])).any()


@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (5, 3)])
def test_odd_shapes(model, shape):
    width, height = shape
    scene = RenderScene.from_mujoco(model, "top", width, height)
    frame = jax.jit(lambda *a: render(scene, *a))(*poses(model, "top"))
    assert frame.rgb.shape == (height, width, 3)
    assert frame.segmentation[height // 2, width // 2] == 1
    # The ball's top is the nearest point: 3 - 0.8 m below the camera.
    np.testing.assert_allclose(frame.depth[height // 2, width // 2], 2.2, rtol=1e-5)
