"""The tabletop scene: arm, table plane, coloured cubes, flat discs and two cameras."""

from dataclasses import dataclass

import mujoco
import numpy as np

from loomax.envs.scene.panda import TCP, actuator_xml, arm_xml

CUBE_HALF = 0.02
CUBE_MASS = 0.06
DISC_RADIUS = 0.05
DISC_HALF_HEIGHT = 0.001
CONTROL_STEP = 0.05


@dataclass(frozen=True)
class TableScene:
    """Parameters of the scene.

    Attributes:
        cubes: free cube slots.
        discs: visible discs without contact.
        substeps: physics steps of one 50 ms control step.
        iterations: Newton iterations of the contact solver.
        line_search: line-search iterations.
        max_contacts: contacts kept of each kind (the deepest); 0 keeps all.
    """

    cubes: int = 3
    discs: int = 0
    substeps: int = 5
    iterations: int = 4
    line_search: int = 6
    max_contacts: int = 0


def _look_at(position, target) -> str:
    """Position and axes of a camera as MJCF attributes; a camera looks along its -z."""
    position, target = np.asarray(position, float), np.asarray(target, float)
    forward = (target - position) / np.linalg.norm(target - position)
    reference = np.array([0.0, 0.0, 1.0]) if abs(forward[2]) < 0.95 else np.array([1.0, 0.0, 0.0])
    right = np.cross(forward, reference)
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    axes = " ".join(f"{v:.9g}" for v in (*right, *up))
    return f'pos="{" ".join(f"{v:.9g}" for v in position)}" xyaxes="{axes}"'


def _cube(i: int) -> str:
    x, y = 0.45 + 0.08 * i, -0.15 + 0.15 * i
    return (
        f'<body name="cube{i}" pos="{x} {y} {CUBE_HALF}"><freejoint name="cube{i}"/>'
        f'<geom name="cube{i}" type="box" size="{CUBE_HALF} {CUBE_HALF} {CUBE_HALF}" '
        f'mass="{CUBE_MASS}" rgba="0.8 0.2 0.2 1" contype="2" conaffinity="1"/>'
        # Cubes meet as their inscribed spheres: one contact row instead of a box-box clip.
        f'<geom name="core{i}" type="sphere" size="{CUBE_HALF}" mass="0" rgba="0 0 0 0" group="3" '
        'condim="1" contype="4" conaffinity="4"/></body>'
    )


def _disc(i: int) -> str:
    return (
        f'<geom name="disc{i}" type="cylinder" size="{DISC_RADIUS} {DISC_HALF_HEIGHT}" '
        f'pos="0.5 {0.1 * i} {DISC_HALF_HEIGHT}" rgba="0.6 0.3 0.8 1" contype="0" conaffinity="0"/>'
    )


def scene_xml(scene: TableScene) -> str:
    """MJCF of the scene.

    Raises:
        ValueError: a count outside its range.
    """
    if not 1 <= scene.cubes <= 4:
        raise ValueError(f"cubes={scene.cubes}: must be in 1..4, one per colour")
    if not 0 <= scene.discs <= 3:
        raise ValueError(f"discs={scene.discs}: must be in 0..3, one per colour")
    if scene.substeps < 1:
        raise ValueError(f"substeps={scene.substeps}: must be at least 1 (5 was tested)")
    wrist = f'<camera name="wrist" fovy="75" {_look_at((0.075, 0, 0.005), (0.01, 0, TCP + 0.02))}/>'
    eye = f'<camera name="scene" fovy="42" {_look_at((1.05, 0, 0.62), (0.50, 0, 0.03))}/>'
    cap = (
        f'<custom><numeric name="max_contact_points" data="{scene.max_contacts}"/></custom>'
        if scene.max_contacts
        else ""
    )
    return f"""<mujoco model="table"><compiler angle="radian" autolimits="false"/>
<option timestep="{CONTROL_STEP / scene.substeps:.9g}" iterations="{scene.iterations}"
 ls_iterations="{scene.line_search}" solver="Newton" cone="pyramidal" integrator="implicitfast"
 jacobian="dense"><flag eulerdamp="disable"/></option>{cap}
<worldbody><light pos="0.4 -0.4 2" dir="0.05 0.2 -1" directional="true"/>
<geom name="table" type="plane" size="1.5 1.5 0.1" rgba="0.45 0.40 0.36 1" contype="1"
 conaffinity="0"/>{eye}{arm_xml(wrist)}
{"".join(_cube(i) for i in range(scene.cubes))}{"".join(_disc(i) for i in range(scene.discs))}
</worldbody><actuator>{actuator_xml()}</actuator></mujoco>"""


def build(scene: TableScene) -> mujoco.MjModel:
    """Compiles the scene. Generalised positions: 7 joints, 2 fingers, then 7 per cube."""
    return mujoco.MjModel.from_xml_string(scene_xml(scene))


@dataclass(frozen=True)
class Ids:
    """Geoms whose pose or colour the task changes when it renders."""

    cubes: tuple[int, ...]
    discs: tuple[int, ...]

    @classmethod
    def of(cls, model: mujoco.MjModel, scene: TableScene) -> "Ids":
        return cls(
            cubes=tuple(model.geom(f"cube{i}").id for i in range(scene.cubes)),
            discs=tuple(model.geom(f"disc{i}").id for i in range(scene.discs)),
        )


def cube_qpos(index: int) -> int:
    """First position coordinate of a cube: xyz, then the quaternion wxyz."""
    return 9 + 7 * index


def cube_dof(index: int) -> int:
    """First velocity coordinate of a cube: linear xyz (world), then angular xyz (body)."""
    return 9 + 6 * index
