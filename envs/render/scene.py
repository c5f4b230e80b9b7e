"""The static half of a picture: which geoms exist, what they are, and where the pixels look."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import mujoco
import numpy as np

# Surfaces are packed into the low bits of a 32-bit depth key; more would leave too few for depth.
MAX_GEOMS = 255
VARIANTS = 4

_KINDS = {
    int(mujoco.mjtGeom.mjGEOM_PLANE): "plane",
    int(mujoco.mjtGeom.mjGEOM_SPHERE): "sphere",
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): "capsule",
    int(mujoco.mjtGeom.mjGEOM_ELLIPSOID): "ellipsoid",
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): "cylinder",
    int(mujoco.mjtGeom.mjGEOM_BOX): "box",
}


@dataclasses.dataclass(frozen=True)
class Lighting:
    """One light at infinity, ambient light, and the sky.

    `direction` points from the scene to the light (world frame, any length). Colours are in [0, 1].
    """

    direction: tuple[float, float, float] = (0.35, -0.25, 1.0)
    ambient: float = 0.45
    diffuse: float = 0.55
    sky_low: tuple[float, float, float] = (0.55, 0.62, 0.70)
    sky_high: tuple[float, float, float] = (0.25, 0.40, 0.60)

    def __post_init__(self):
        if not math.hypot(*self.direction) > 0:
            raise ValueError(f"direction={self.direction} has no length; point it at the light")
        for name in ("ambient", "diffuse"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1]")


@dataclasses.dataclass(frozen=True)
class Checker:
    """A checker pattern on one geom, in its local x and y: second colour and cell edge (metres)."""

    geom: str
    rgb: tuple[float, float, float] = (0.3, 0.3, 0.3)
    cell: float = 0.1

    def __post_init__(self):
        if not self.cell > 0:
            raise ValueError(f"cell={self.cell} must be above 0 metres")


@dataclasses.dataclass(frozen=True, eq=False)
class RenderScene:
    """What never changes between frames of one camera; compared by identity, so jit can hash it.

    `slots` are the drawn geoms (MuJoCo ids), sorted by kind; `kinds[i]`, `size[i]` (metres) and
    `rgba[i]` belong to slot i. Poses always come for all `geoms` of the model. `fovy` is vertical,
    in degrees; `near` and `far` bound the depth, in metres.
    """

    width: int
    height: int
    fovy: float
    camera: int
    geoms: int
    slots: tuple[int, ...]
    kinds: tuple[str, ...]
    size: np.ndarray
    rgba: np.ndarray
    near: float
    far: float
    lighting: Lighting = Lighting()
    checkers: tuple[tuple[int, Checker], ...] = ()

    @property
    def id_bits(self) -> int:
        """Low bits of a depth key that name a surface; 23 minus this many are left for depth."""
        return (VARIANTS * len(self.slots)).bit_length()

    def groups(self) -> list[tuple[str, slice]]:
        """Each kind with the run of slots that it fills."""
        kinds = dict.fromkeys(self.kinds)
        return [
            (kind, slice(self.kinds.index(kind), self.kinds.index(kind) + self.kinds.count(kind)))
            for kind in kinds
        ]

    def pixel_rays(self) -> tuple[np.ndarray, np.ndarray]:
        """Directions (u, v, -1) in the camera frame, so that a ray's parameter is its depth."""
        half = math.tan(math.radians(self.fovy) / 2)
        columns = ((np.arange(self.width) + 0.5) * 2 / self.width - 1) * half
        rows = (1 - (np.arange(self.height) + 0.5) * 2 / self.height) * half
        u = np.broadcast_to(columns * self.width / self.height, (self.height, self.width))
        v = np.broadcast_to(rows[:, None], (self.height, self.width))
        return u.astype(np.float32), v.astype(np.float32)

    @classmethod
    def from_mujoco(
        cls,
        model: mujoco.MjModel,
        camera: str,
        width: int = 64,
        height: int = 64,
        *,
        hidden_groups: Sequence[int] = (3, 4, 5),
        hidden_geoms: Sequence[str] = (),
        lighting: Lighting | None = None,
        checkers: Sequence[Checker] = (),
    ) -> RenderScene:
        """Reads geoms, sizes, colours and one perspective camera out of a compiled model.

        Groups 3 to 5 are hidden as in MuJoCo's viewer. Raises ValueError for an unknown camera or
        geom, a camera with its own intrinsics, a geom type that is no primitive, or no pixels.
        """
        if width < 1 or height < 1:
            raise ValueError(f"width={width}, height={height}: both must be at least 1 pixel")
        camera_id = _id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera, "camera")
        _check_camera(model, camera_id, camera)
        hidden = {_id(model, mujoco.mjtObj.mjOBJ_GEOM, name, "geom") for name in hidden_geoms}
        slots = [
            geom
            for geom in range(model.ngeom)
            if geom not in hidden and int(model.geom_group[geom]) not in set(hidden_groups)
        ]
        slots.sort(key=lambda geom: _kind(model, geom))
        if not 1 <= len(slots) <= MAX_GEOMS:
            raise ValueError(f"{len(slots)} drawn geoms; from 1 to {MAX_GEOMS} can be drawn")
        marks = ((_id(model, mujoco.mjtObj.mjOBJ_GEOM, c.geom, "geom"), c) for c in checkers)
        return cls(
            width=width,
            height=height,
            fovy=float(model.cam_fovy[camera_id]),
            camera=camera_id,
            geoms=model.ngeom,
            slots=tuple(slots),
            kinds=tuple(_kind(model, geom) for geom in slots),
            size=np.asarray(model.geom_size[slots], np.float32),
            rgba=_colours(model)[slots],
            near=float(model.vis.map.znear * model.stat.extent),
            far=float(model.vis.map.zfar * model.stat.extent),
            lighting=lighting or Lighting(),
            checkers=tuple((slots.index(geom), mark) for geom, mark in marks if geom in slots),
        )


def _colours(model: mujoco.MjModel) -> np.ndarray:
    material = model.geom_matid
    return np.where(
        (material >= 0)[:, None]
        & (model.geom_rgba == np.array([0.5, 0.5, 0.5, 1.0], np.float32)).all(1)[:, None],
        model.mat_rgba[material] if model.nmat else model.geom_rgba,
        model.geom_rgba,
    ).astype(np.float32)


def _kind(model: mujoco.MjModel, geom: int) -> str:
    kind = int(model.geom_type[geom])
    if kind not in _KINDS:
        name = model.geom(geom).name or f"number {geom}"
        raise ValueError(
            f"geom {name} has type {mujoco.mjtGeom(kind).name}; drawn types are "
            f"{', '.join(_KINDS.values())}: hide it with hidden_geoms or hidden_groups"
        )
    return _KINDS[kind]


def _check_camera(model: mujoco.MjModel, camera: int, name: str) -> None:
    if model.cam_sensorsize[camera].any():
        raise ValueError(f"camera {name} sets sensorsize; give it a fovy instead")
    if int(model.cam_projection[camera]) != int(mujoco.mjtProjection.mjPROJ_PERSPECTIVE):
        raise ValueError(f"camera {name} is orthographic; only perspective cameras are drawn")


def _id(model: mujoco.MjModel, kind: mujoco.mjtObj, name: str, word: str) -> int:
    found = mujoco.mj_name2id(model, kind, name)
    if found < 0:
        total = {"camera": model.ncam, "geom": model.ngeom}[word]
        known = [mujoco.mj_id2name(model, kind, i) for i in range(total)]
        raise ValueError(f"no {word} named {name!r}; the model has {[n for n in known if n]}")
    return found
