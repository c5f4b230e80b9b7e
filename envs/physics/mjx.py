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
from flax import struct
from jaxtyping import Array, Float

from loomax.envs.physics import kinematics
from loomax.envs.physics.state import PhysicsState, Poses

# MJX prints that Warp, its NVIDIA back end, is missing; nothing here needs it.
with contextlib.redirect_stdout(io.StringIO()):
    from mujoco import mjx


@struct.dataclass
class PhysicsModel:
    """A model with its template data, and its tree of bodies."""

    model: mjx.Model
    template: mjx.Data
    tree: kinematics.Tree = struct.field(pytree_node=False)


def put(mj_model: mujoco.MjModel) -> PhysicsModel:
    """Moves a compiled model to the default device."""
    tree = kinematics.read(mj_model)
    return PhysicsModel(mjx.put_model(mj_model), mjx.make_data(mj_model), tree)


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
    return kinematics.poses(model.tree, qpos)
