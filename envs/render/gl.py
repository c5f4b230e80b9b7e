"""Pictures for people: MuJoCo's OpenGL renderer where there is one, our ray caster elsewhere.

OpenGL needs libEGL or libOSMesa (Debian: `libegl1 libgl1-mesa-dri` or `libosmesa6`), but no
display. `MUJOCO_GL` picks or disables the back end, as in MuJoCo itself.
"""

import copy
import importlib
import os
import warnings
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from loomax.envs.render.frame import render_rgb
from loomax.envs.render.notice import say_once
from loomax.envs.render.scene import RenderScene

_OFF = ("disable", "disabled", "off", "false", "0")
# A 4096 x 4096 shadow map, MuJoCo's default, takes a software renderer 100 ms a frame.
_SHADOW_MAP = 1024


class Painter:
    """Draws one camera's view of a model at any joint positions, on the host.

    `backend` is "gl", "cast" or "auto": OpenGL with the ray caster as a fall-back, said once on
    stderr. The attribute `backend` tells which one is used. Close it, or use it in a `with`.

    Raises:
        ValueError: no such back end or camera, or sizes below 1.
        RuntimeError: `backend` is "gl" and OpenGL does not start here.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        camera: str,
        width: int = 480,
        height: int = 480,
        *,
        backend: str = "auto",
        hidden_groups: Sequence[int] = (3, 4, 5),
    ):
        if backend not in ("auto", "gl", "cast"):
            raise ValueError(f"backend={backend!r}; pass 'auto', 'gl' or 'cast'")
        self._scene = RenderScene.from_mujoco(
            model, camera, width, height, hidden_groups=hidden_groups
        )
        self._model = _for_video(model, width, height)
        self._data = mujoco.MjData(self._model)
        self._close: Callable[[], None] | None = None
        self.backend = "cast"
        if backend != "cast":
            self._try_gl(must=backend == "gl", hidden_groups=hidden_groups)
        if self.backend == "cast":
            self._draw = self._cast()

    def draw(self, qpos: np.ndarray, rgba: np.ndarray | None = None) -> np.ndarray:
        """u8[H, W, 3] at joint positions [nq]; `rgba` [G, 4] replaces the geoms' colours."""
        if qpos.shape != (self._model.nq,):
            raise ValueError(f"qpos is {qpos.shape}; the model needs {(self._model.nq,)}")
        self._data.qpos[:] = qpos
        if rgba is not None:
            self._model.geom_rgba[:] = rgba
            self._model.geom_matid[:] = -1
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        return self._draw()

    def close(self) -> None:
        """Frees the OpenGL context, if any."""
        if self._close:
            self._close()
        self._close = None

    def __enter__(self) -> "Painter":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _try_gl(self, must: bool, hidden_groups: Sequence[int]) -> None:
        try:
            self._draw, self._close = _open_gl(
                self._model, self._data, self._scene, set(hidden_groups)
            )
            self.backend = "gl"
        except _NoGL as error:
            if must:
                raise RuntimeError(f"OpenGL does not start here: {error}") from error
            say_once(f"No OpenGL here ({error}); videos are drawn by the built-in ray caster.")

    def _cast(self) -> Callable[[], np.ndarray]:
        scene = self._scene
        paint = jax.jit(lambda *poses: render_rgb(scene, *poses, shadow=True))

        def draw() -> np.ndarray:
            data = self._data
            # Materials count only while no colours were given.
            known = np.zeros((scene.geoms, 4), np.float32)
            known[list(scene.slots)] = scene.rgba
            rgba = self._model.geom_rgba if (self._model.geom_matid < 0).all() else known
            poses = (
                data.geom_xpos,
                data.geom_xmat.reshape(-1, 3, 3),
                rgba,
                data.cam_xpos[scene.camera],
                data.cam_xmat[scene.camera].reshape(3, 3),
            )
            return np.asarray(paint(*(jnp.asarray(x, jnp.float32) for x in poses)))

        return draw


class _NoGL(Exception):
    """OpenGL cannot be used; the text says why."""


def _for_video(model: mujoco.MjModel, width: int, height: int) -> mujoco.MjModel:
    model = copy.deepcopy(model)
    model.vis.global_.offwidth = max(width, model.vis.global_.offwidth)
    model.vis.global_.offheight = max(height, model.vis.global_.offheight)
    model.vis.quality.shadowsize = min(_SHADOW_MAP, model.vis.quality.shadowsize)
    return model


def _backends() -> list[str]:
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    if chosen in _OFF:
        raise _NoGL(f"MUJOCO_GL={chosen}")
    if chosen in ("egl", "osmesa", "glfw"):
        return [chosen]
    return ["egl", "osmesa"]


def _context(width: int, height: int):
    """A current OpenGL context of the first back end that starts."""
    reasons = []
    for name in _backends():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                context = importlib.import_module(f"mujoco.{name}").GLContext(width, height)
            context.make_current()
            return context
        # Loaders raise whatever they like: ImportError, AttributeError, OSError, GL errors.
        except Exception as error:  # noqa: BLE001
            reasons.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[:1]}")
    raise _NoGL("; ".join(reasons))


def _open_gl(model, data, scene: RenderScene, hidden_groups: set[int]):
    context = _context(scene.width, scene.height)
    try:
        gl = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
    except mujoco.FatalError as error:
        context.free()
        raise _NoGL(str(error)) from error
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, gl)
    visual = mujoco.MjvScene(model, maxgeom=model.ngeom + 100)
    option = mujoco.MjvOption()
    option.geomgroup[:] = [group not in hidden_groups for group in range(6)]
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
    camera.fixedcamid = scene.camera
    rect = mujoco.MjrRect(0, 0, scene.width, scene.height)
    everything = mujoco.mjtCatBit.mjCAT_ALL.value

    def draw() -> np.ndarray:
        context.make_current()
        mujoco.mjv_updateScene(model, data, option, None, camera, everything, visual)
        mujoco.mjr_render(rect, visual, gl)
        image = np.empty((scene.height, scene.width, 3), np.uint8)
        mujoco.mjr_readPixels(image, None, rect, gl)
        return image[::-1].copy()

    def close() -> None:
        context.make_current()
        gl.free()
        context.free()

    return draw, close
