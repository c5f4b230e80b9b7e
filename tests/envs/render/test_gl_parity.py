"""The same poses through MuJoCo's own OpenGL renderer: same geoms, same depths.

OpenGL runs in a process of its own, because a process can have one back end only.
"""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from loomax.envs.render import RenderScene, render

SIDE = 96
# Fine tessellation: OpenGL draws round things as polyhedra, which moves their outlines inwards.
XML = """
<mujoco>
  <visual><quality shadowsize="0" offsamples="0" numslices="96" numstacks="48"/></visual>
  <worldbody>
    <camera name="front" pos="1.5 0 1.1" xyaxes="0 1 0 -.5 0 .86"/>
    <camera name="corner" pos="1.1 -.9 1" xyaxes=".63 .77 0 -.45 .37 .81" fovy="55"/>
    <camera name="down" pos=".05 .05 1.6" fovy="40"/>
    <camera name="low" pos=".9 .9 .5" xyaxes="-.7 .7 0 0 0 1" fovy="70"/>
    <geom type="plane" size="3 2 .05"/>
    <geom type="box" size=".4 .5 .15" pos="0 0 .15"/>
    <geom type="capsule" fromto="-.3 0 .3 -.3 0 .6" size=".06"/>
    <geom type="capsule" fromto="-.3 0 .6 .1 .1 .7" size=".05"/>
    <geom type="cylinder" size=".1 .06" pos=".1 -.25 .36"/>
    <geom type="cylinder" size=".04 .12" pos=".2 .25 .45" euler="50 20 0"/>
    <geom type="sphere" size=".08" pos=".25 -.05 .38"/>
    <geom type="ellipsoid" size=".06 .1 .04" pos="-.05 .35 .35" euler="10 20 30"/>
    <geom type="box" size=".05 .08 .03" pos=".05 .05 .33" euler="0 0 35"/>
    <geom type="box" size=".05 .05 .05" pos=".1 .1 .8" euler="40 30 35"/>
    <geom type="capsule" size=".02 .05" pos="-.1 -.35 .33" euler="0 80 20"/>
  </worldbody>
</mujoco>
"""

DRAW = """
import sys, mujoco, numpy as np
model = mujoco.MjModel.from_xml_string(sys.argv[1])
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
side, out = int(sys.argv[2]), {}
with mujoco.Renderer(model, side, side) as renderer:
    for camera in range(model.ncam):
        renderer.update_scene(data, camera)
        renderer.enable_segmentation_rendering()
        pairs = renderer.render()
        is_geom = pairs[..., 1] == mujoco.mjtObj.mjOBJ_GEOM
        out[f"ids{camera}"] = np.where(is_geom, pairs[..., 0], -1)
        renderer.enable_depth_rendering()
        out[f"depth{camera}"] = renderer.render()
np.savez(sys.argv[3], **out)
"""


@pytest.fixture(scope="module")
def opengl(tmp_path_factory):
    """Segmentation and depth of every camera by the first OpenGL back end that starts."""
    path = str(tmp_path_factory.mktemp("gl") / "frames.npz")
    reasons = []
    for backend in ("egl", "osmesa"):
        environment = os.environ | {"MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
        done = subprocess.run(
            [sys.executable, "-c", DRAW, XML, str(SIDE), path],
            env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if done.returncode == 0:
            with np.load(path) as frames:
                return dict(frames)
        reasons.append(f"{backend}: {done.stderr.strip().splitlines()[-1:]}")
    pytest.skip(f"no OpenGL (apt install libegl1 libgl1-mesa-dri, or libosmesa6): {reasons}")


@pytest.mark.parametrize("camera", ["front", "corner", "down", "low"])
def test_same_geoms_and_depths(opengl, camera):
    model = mujoco.MjModel.from_xml_string(XML)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    scene = RenderScene.from_mujoco(model, camera, SIDE, SIDE)
    eye = scene.camera
    poses = (data.geom_xpos, data.geom_xmat.reshape(-1, 3, 3))
    view = (data.cam_xpos[eye], data.cam_xmat[eye].reshape(3, 3))
    poses, view = ([jnp.asarray(x, jnp.float32) for x in pair] for pair in (poses, view))
    frame = jax.jit(lambda *a: render(scene, *a))(*poses, None, *view)
    ids, depth = np.asarray(frame.segmentation), np.asarray(frame.depth)
    agree = ids == opengl[f"ids{eye}"]
    assert agree.mean() >= 0.995
    assert len(np.unique(ids)) >= 8
    error = np.abs(depth - opengl[f"depth{eye}"])[agree & (ids >= 0)]
    assert np.median(error) <= 1e-4
    assert np.quantile(error, 0.99) <= 3e-3
