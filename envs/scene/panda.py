"""A Franka Panda made of primitives, from its published kinematic table.

Lengths in metres, angles in radians. The table is the modified (Craig) Denavit-Hartenberg table of
the Franka Control Interface documentation, section "Denavit-Hartenberg parameters". Masses are
round numbers near the published ones; no mesh, and no arm link takes part in contacts.
"""

import math

A = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
D = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
ALPHA = (0.0, -math.pi / 2, math.pi / 2, math.pi / 2, -math.pi / 2, math.pi / 2, math.pi / 2)
FLANGE = 0.107
HAND_YAW = -math.pi / 4
TCP = 0.1034

LOWER = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
UPPER = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
# The arm reaches the middle of the table from here, gripper down, elbow up.
HOME = (0.0, 0.162, 0.0, -2.291, 0.0, 2.453, math.pi / 4)

FINGER_TRAVEL = 0.04
PAD_RADIUS = 0.008
PAD_SPREAD = 0.009
FINGER_MOUNT = 0.0584

_MASS = (4.97, 0.65, 3.23, 3.59, 1.23, 1.67, 0.74)
_STIFFNESS = (1500,) * 4 + (900,) * 3
_DAMPING = (150,) * 4 + (90,) * 3
# Capsules as (body, from, to, radius); body 0 is the base.
_LINKS = (
    (0, (0.0, 0.0, 0.05), (0.0, 0.0, 0.20), 0.075),
    (1, (0.0, 0.0, -0.12), (0.0, 0.0, 0.0), 0.065),
    (2, (0.0, 0.0, 0.0), (0.0, -0.13, 0.0), 0.063),
    (3, (0.0, 0.0, -0.14), (0.0825, 0.0, 0.0), 0.058),
    (4, (0.0, 0.0, 0.0), (-0.0825, 0.11, 0.0), 0.056),
    (5, (0.0, 0.0, -0.22), (0.0, 0.0, 0.0), 0.052),
    (6, (0.0, 0.0, 0.0), (0.088, 0.0, 0.0), 0.050),
    (7, (0.0, 0.0, 0.04), (0.0, 0.0, 0.09), 0.045),
)
_WHITE, _GREY, _DARK = "0.90 0.91 0.92 1", "0.55 0.57 0.60 1", "0.16 0.17 0.19 1"


def _text(values) -> str:
    return " ".join(f"{v:.9g}" for v in values)


def _capsule(body: int, start, end, radius: float) -> str:
    mass = _MASS[body - 1] if body else 3.0
    shade = _WHITE if body % 2 == 0 else _GREY
    return (
        f'<geom type="capsule" fromto="{_text(start + end)}" size="{radius}" mass="{mass}" '
        f'rgba="{shade}" contype="0" conaffinity="0"/>'
    )


def _finger(side: str, sign: float) -> str:
    pads = "".join(
        f'<geom name="pad_{side}{i}" type="sphere" size="{PAD_RADIUS}" group="3" mass="0" '
        f'pos="{x} {sign * PAD_RADIUS} {TCP - FINGER_MOUNT}" friction="1.5 0.005 0.0001" '
        'rgba="0 0 0 0" contype="0" conaffinity="2"/>'
        for i, x in enumerate((-PAD_SPREAD, PAD_SPREAD))
    )
    return (
        f'<body name="finger_{side}" pos="0 0 {FINGER_MOUNT}" gravcomp="1">'
        f'<joint name="finger_{side}" type="slide" axis="0 {sign:g} 0" armature="0.1"/>'
        f'<geom name="finger_{side}" type="box" size="0.011 0.007 0.027" mass="0.05" '
        f'pos="0 {sign * 0.0075} 0.026" rgba="{_DARK}" contype="0" conaffinity="0"/>{pads}</body>'
    )


def _hand(camera: str) -> str:
    turn = _text((math.cos(HAND_YAW / 2), 0, 0, math.sin(HAND_YAW / 2)))
    return (
        f'<body name="hand" pos="0 0 {FLANGE}" quat="{turn}" '
        'gravcomp="1"><geom name="hand" type="box" size="0.028 0.098 0.031" pos="0 0 0.031" '
        f'mass="0.73" rgba="{_WHITE}" contype="0" conaffinity="0"/>'
        f"{camera}{_finger('left', 1.0)}{_finger('right', -1.0)}</body>"
    )


def arm_xml(wrist_camera: str = "") -> str:
    """The arm as nested MJCF bodies under the base at the origin.

    Joints `joint1`..`joint7`, then `finger_left` and `finger_right` (slides, 0 closed).

    Args:
        wrist_camera: MJCF camera element to fix to the hand.
    """
    inner = _hand(wrist_camera)
    for i in reversed(range(7)):
        pos = (A[i], -math.sin(ALPHA[i]) * D[i], math.cos(ALPHA[i]) * D[i])
        quat = (math.cos(ALPHA[i] / 2), math.sin(ALPHA[i] / 2), 0.0, 0.0)
        link = "".join(_capsule(*link) for link in _LINKS if link[0] == i + 1)
        inner = (
            f'<body name="link{i + 1}" pos="{_text(pos)}" quat="{_text(quat)}" gravcomp="1">'
            f'<joint name="joint{i + 1}" type="hinge" axis="0 0 1" armature="0.1"/>'
            f"{link}{inner}</body>"
        )
    return f'<body name="base">{_capsule(*_LINKS[0])}{inner}</body>'


def actuator_xml() -> str:
    """Position servos: seven joints, then the left and the right finger.

    A finger presses a 4 cm cube with 8 N. No servo has a force limit: the engines differ in how
    they integrate a servo at its limit.
    """
    arm = "".join(
        f'<position joint="joint{i + 1}" kp="{_STIFFNESS[i]}" kv="{_DAMPING[i]}"/>'
        for i in range(7)
    )
    fingers = "".join(
        f'<position joint="finger_{side}" kp="400" kv="15"/>' for side in ("left", "right")
    )
    return arm + fingers
