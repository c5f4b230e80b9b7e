"""What a RenderScene reads from a model, and what it refuses."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from loomax.envs.render import Checker, Lighting, RenderScene, render
from loomax.envs.render.bands import in_bands
from loomax.envs.render.shade import fetch_columns


def model_of(body: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(
        f'<mujoco><worldbody><camera name="eye" fovy="40"/>{body}</worldbody></mujoco>'
    )


BALLS = '<geom name="a" size=".1"/><geom name="b" type="box" size=".1 .1 .1" group="4"/>'


def test_hidden_groups_and_geoms_are_not_drawn():
    model = model_of(BALLS + '<geom name="c" size=".2"/>')
    scene = RenderScene.from_mujoco(model, "eye", 4, 4)
    assert sorted(scene.slots) == [0, 2] and scene.geoms == 3
    assert RenderScene.from_mujoco(model, "eye", hidden_geoms=["a"]).slots == (2,)
    everything = RenderScene.from_mujoco(model, "eye", hidden_groups=())
    assert sorted(everything.slots) == [0, 1, 2]
    assert sorted(everything.kinds) == list(everything.kinds)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"camera": "ear"}, "no camera named 'ear'.*eye"),
        ({"hidden_geoms": ["z"]}, "no geom named 'z'"),
        ({"checkers": [Checker("z")]}, "no geom named 'z'"),
        ({"width": 0}, "width=0"),
        ({"hidden_groups": range(6)}, "0 drawn geoms"),
    ],
)
def test_refusals(change, words):
    arguments = {"camera": "eye", "width": 4, "height": 4} | change
    with pytest.raises(ValueError, match=words):
        RenderScene.from_mujoco(model_of(BALLS), **arguments)


def test_refused_cameras_and_geoms():
    sensor = '<camera name="s" resolution="4 4" sensorsize=".1 .1" focal=".1 .1"/>'
    flat = '<camera name="o" projection="orthographic" fovy="1"/>'
    model = model_of(BALLS + sensor + flat)
    for camera, words in (("s", "sensorsize"), ("o", "orthographic")):
        with pytest.raises(ValueError, match=words):
            RenderScene.from_mujoco(model, camera)
    mesh = mujoco.MjModel.from_xml_string(
        '<mujoco><asset><mesh name="m" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset><worldbody>'
        '<camera name="eye"/><geom name="rock" type="mesh" mesh="m"/></worldbody></mujoco>'
    )
    with pytest.raises(ValueError, match="geom rock has type mjGEOM_MESH"):
        RenderScene.from_mujoco(mesh, "eye")


def test_bad_values():
    with pytest.raises(ValueError, match="no length"):
        Lighting(direction=(0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="ambient=2"):
        Lighting(ambient=2.0)
    with pytest.raises(ValueError, match="cell=0"):
        Checker("a", cell=0.0)
    with pytest.raises(ValueError, match="pass 'gather' or 'onehot'"):
        fetch_columns(jnp.zeros((2, 2)), jnp.zeros(3, int), "scatter")


def test_poses_of_another_model_are_refused():
    scene = RenderScene.from_mujoco(model_of(BALLS), "eye", 4, 4)
    poses = jnp.zeros((3, 3)), jnp.zeros((3, 3, 3)), None, jnp.zeros(3), jnp.eye(3)
    with pytest.raises(ValueError, match=r"geom_pos is \(3, 3\).*\(2, 3\)"):
        render(scene, *poses)


def test_scene_is_a_static_argument():
    scene = RenderScene.from_mujoco(model_of(BALLS), "eye", 4, 4)
    draw = jax.jit(lambda scene, x: x * scene.width, static_argnums=0)
    assert draw(scene, 2) == 8


@pytest.mark.parametrize("pixels", [1, 7, 12])
def test_bands_keep_order_and_are_two_at_least(pixels):
    widths = []

    def double(x, y):
        widths.append(x.shape[0])
        return 2 * x, y + 1

    x = jnp.arange(pixels)
    twice, more = in_bands(double, x, x)
    np.testing.assert_array_equal(twice, 2 * np.arange(pixels))
    np.testing.assert_array_equal(more, np.arange(pixels) + 1)
    assert set(widths) == {{1: 1, 7: 1, 12: 6}[pixels]}
