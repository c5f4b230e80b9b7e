"""A toy world on which every algorithm can be seen to learn within seconds."""

from typing import no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Key

from loomax.envs.point_mass_config import PointMassConfig
from loomax.envs.types import State


@struct.dataclass
@no_type_check  # the same fields, batched, hold more axes
class Plane:
    """Positions of the point and of its goal in [-1, 1]^2."""

    point: Float[Array, "2"]
    goal: Float[Array, "2"]


class PointMass:
    """The point moves by its action; reward is the distance gained, plus 1 at the goal."""

    action_size = 2
    proprio_size = 4
    privileged_size = 5
    active_dims = (0, 1)
    instructions = ("go",)

    def __init__(self, config: PointMassConfig):
        self.config = config
        self.horizon = config.horizon

    def reset(self, *, key: Key[Array, ""]) -> State:
        point, goal = jax.random.uniform(key, (2, 2), minval=-1.0, maxval=1.0)
        zero = jnp.zeros(())
        return self._state(Plane(point, goal), jnp.zeros((), jnp.int32), zero, zero)

    def step(self, state: State, action: Float[Array, "2"]) -> State:
        old = state.data
        moved = old.point + self.config.speed * jnp.clip(action, -1.0, 1.0)
        plane = old.replace(point=jnp.clip(moved, -1.5, 1.5))
        gained = self._distance(old) - self._distance(plane)
        success = (self._distance(plane) < self.config.radius).astype(jnp.float32)
        return self._state(plane, state.info["steps"] + 1, gained + success, success)

    def render(self, state: State) -> dict[str, Array]:
        """No images."""
        return {}

    def _distance(self, plane: Plane) -> Float[Array, ""]:
        return jnp.linalg.norm(plane.point - plane.goal)

    def _state(
        self,
        plane: Plane,
        steps: Int[Array, ""],
        reward: Float[Array, ""],
        success: Float[Array, ""],
    ) -> State:
        truncated = (steps >= self.horizon).astype(jnp.float32) * (1 - success)
        proprio = jnp.concatenate([plane.point, plane.goal - plane.point])
        time = steps.astype(jnp.float32)[None] / self.horizon
        return State(
            data=plane,
            obs={
                "proprio": proprio,
                "instruction": jnp.zeros((), jnp.int32),
                "privileged": jnp.concatenate([proprio, time]),
            },
            reward=reward,
            done=jnp.maximum(success, truncated),
            metrics={"distance": self._distance(plane)},
            info={
                "steps": steps,
                "terminated": success,
                "truncated": truncated,
                "success": success,
            },
        )
