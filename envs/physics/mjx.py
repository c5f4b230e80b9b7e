"""MuJoCo in XLA (MJX, pure JAX implementation): TPU, GPU and CPU.

A full `mjx.Data` is some hundred arrays, nearly all of them recomputed in every step. Programs
carry a `PhysicsState` and rebuild the rest from a constant template.

Compile programs that call `step` with `loomax.runtime.compile.physics_options()`.
"""

import contextlib
import io

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from loomax.envs.physics.state import PhysicsState, Poses

# MJX prints that Warp, its NVIDIA back end, is missing; nothing here needs it.
with contextlib.redirect_stdout(io.StringIO()):
    from mujoco import mjx


@struct.dataclass
class PhysicsModel:
    """A model with its template data and its cameras' rotations within their bodies."""

    model: mjx.Model
    template: mjx.Data
    cam_frame: Float[Array, "C 3 3"]


def put(mj_model: mujoco.MjModel) -> PhysicsModel:
    """Moves a compiled model to the default device."""
    frames = np.zeros((mj_model.ncam, 9))
    for frame, quaternion in zip(frames, mj_model.cam_quat, strict=True):
        mujoco.mju_quat2Mat(frame, quaternion)
    local = jnp.asarray(frames.reshape(-1, 3, 3), jnp.float32)
    return PhysicsModel(mjx.put_model(mj_model), mjx.make_data(mj_model), local)


def initial(qpos: Float[Array, " Q"], nv: int) -> PhysicsState:
    """A world at rest."""
    still = jnp.zeros((nv,), jnp.float32)
    return PhysicsState(qpos, still, still, jnp.float32(0.0))


def step(model: PhysicsModel, state: PhysicsState, ctrl: Float[Array, "S U"]) -> PhysicsState:
    """Advances S substeps, one row of servo commands each."""

    def substep(state, command):
        data = model.template.replace(
            qpos=state.qpos,
            qvel=state.qvel,
            qacc_warmstart=state.qacc_warmstart,
            time=state.time,
            ctrl=command,
        )
        data = mjx.step(model.model, data)
        return PhysicsState(data.qpos, data.qvel, data.qacc_warmstart, data.time), None

    return jax.lax.scan(substep, state, ctrl)[0]


def poses(model: PhysicsModel, qpos: Float[Array, " Q"]) -> Poses:
    """Where everything is at these positions."""
    data = mjx.kinematics(model.model, model.template.replace(qpos=qpos))
    body = model.model.cam_bodyid
    frame = data.xmat[body]
    return Poses(
        data.geom_xpos,
        data.geom_xmat,
        data.xpos[body] + jnp.einsum("cij,cj->ci", frame, model.model.cam_pos),
        jnp.einsum("cij,cjk->cik", frame, model.cam_frame),
    )
