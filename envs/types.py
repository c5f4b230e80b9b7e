"""The protocol that every environment follows.

One environment, no batch axis: batching is `jax.vmap` over `reset` and `step`. Images are not part
of an observation; `render` gives them, so that a program pays for pixels only where it looks.
"""

from typing import Any, Protocol, no_type_check, runtime_checkable

from flax import struct
from jaxtyping import Array, Float, Key


@struct.dataclass
@no_type_check  # the same fields, batched, hold more axes
class State:
    """Everything about one environment between two control steps.

    Structure, shapes and dtypes are the same after `reset` and after `step`. All numbers but
    `metrics` are finite; an episode that reaches others ends there, teaches nothing and counts as
    not solved.

    Attributes:
        data: what the simulator and the controller carry.
        obs: `proprio` f32[P], `instruction` i32[] (index into `env.instructions`) and
            `privileged` f32[Q] (true state, for critics). For the grounding stage also
            `grounding` f32[G], where the named things are.
        reward: f32[], of the last step.
        done: f32[], 1 when the episode is over.
        metrics: f32[] values to log.
        info: `steps` i32[], and `terminated`, `truncated`, `success` f32[].
    """

    data: Any
    obs: dict[str, Array]
    reward: Float[Array, ""]
    done: Float[Array, ""]
    metrics: dict[str, Array]
    info: dict[str, Array]


@runtime_checkable
class Env(Protocol):
    """What reinforcement learning and evaluation need of an environment.

    An environment may have more:

    - `active_dims`, a tuple of the action dimensions that do something; without it all do.
    - `expert(state) -> action` f32[A], the scripted expert: demonstrations are its episodes.
    - `relabel(state, *, key) -> State`, the same world under another instruction that it allows,
      and `pointing(state) -> dict[str, Pointing]`, where the named things appear in the images:
      for the grounding stage.
    - `held_out() -> Env`, the same environment for evaluation, where it starts from a pool.
    - `for_video(pixels) -> Env`, one whose `render` gives a single image of that size.

    `agents/rl/needs.py` says what is missing before anything is compiled.
    """

    action_size: int
    proprio_size: int
    privileged_size: int
    instructions: tuple[str, ...]
    horizon: int

    def reset(self, *, key: Key[Array, ""]) -> State:
        """A fresh episode."""
        ...

    def step(self, state: State, action: Float[Array, " A"]) -> State:
        """One control step. Actions outside [-1, 1] are clipped."""
        ...

    def render(self, state: State) -> dict[str, Array]:
        """Images by camera name, u8[H, W, 3]; empty where there are none."""
        ...
