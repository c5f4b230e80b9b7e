"""The painter for videos: OpenGL when it starts, the ray caster when it does not, said once."""

import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from loomax.envs.render.gl import Painter

XML = """
<mujoco>
  <worldbody>
    <camera name="top" pos="0 0 2" fovy="45"/>
    <light pos="0 0 3" dir="0 0 -1"/>
    <geom type="plane" size="2 2 .1" rgba=".5 .5 .5 1"/>
    <body pos="0 0 .3">
      <joint type="slide" axis="1 0 0"/>
      <geom type="sphere" size=".2" rgba="1 0 0 1"/>
    </body>
  </worldbody>
</mujoco>
"""

DISABLED = """
import sys, mujoco, numpy as np
from loomax.envs.render.gl import Painter
model = mujoco.MjModel.from_xml_string(sys.argv[1])
for _ in range(2):
    with Painter(model, "top", 32, 24) as painter:
        assert painter.backend == "cast", painter.backend
        assert painter.draw(np.zeros(1)).shape == (24, 32, 3)
try:
    Painter(model, "top", 32, 24, backend="gl")
except RuntimeError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_string(XML)


def redness(image):
    image = image.astype(float)
    return image[..., 0] - image[..., 1:].mean(-1)


def test_without_opengl_the_ray_caster_draws_and_says_so_once():
    environment = os.environ | {"MUJOCO_GL": "disabled", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", DISABLED, XML],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("No OpenGL here (MUJOCO_GL=disabled)") == 1
    assert "does not start here: MUJOCO_GL=disabled" in done.stdout


def test_cast_follows_joints_and_colours(model):
    with Painter(model, "top", 48, 48, backend="cast") as painter:
        left, right = (painter.draw(np.array([x])) for x in (-0.5, 0.5))
        green = painter.draw(np.array([0.5]), np.array([[0.5, 0.5, 0.5, 1], [0, 1, 0, 1.0]]))
    assert left.dtype == np.uint8 and left.shape == (48, 48, 3)
    assert redness(left)[24, :24].max() > 80 > 10 > redness(left)[24, 24:].max()
    assert redness(right)[24, 24:].max() > 80 > 10 > redness(right)[24, :24].max()
    assert redness(green).max() < 10
    assert model.geom_rgba[1, 0] == 1, "the caller's model must not change"


def test_opengl_and_cast_see_the_same_ball(model):
    # A context stays with its process, so the back end is left as the process has it.
    with (
        Painter(model, "top", 64, 64) as auto,
        Painter(model, "top", 64, 64, backend="cast") as own,
    ):
        if auto.backend != "gl":
            pytest.skip("no OpenGL (apt install libegl1 libgl1-mesa-dri, or libosmesa6)")
        pair = [redness(painter.draw(np.array([0.3]))) > 60 for painter in (auto, own)]
    assert pair[0].sum() > 20
    assert (pair[0] != pair[1]).mean() < 0.01


def test_refusals(model):
    with pytest.raises(ValueError, match="backend='vulkan'"):
        Painter(model, "top", backend="vulkan")
    with pytest.raises(ValueError, match="no camera named"):
        Painter(model, "side")
    with Painter(model, "top", 8, 8, backend="cast") as painter:
        with pytest.raises(ValueError, match=r"qpos is \(2,\)"):
            painter.draw(np.zeros(2))
