"""The tabletop as a brax environment, and brax's own acting loop on it."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from loomax.envs.types import Env as Tabletop
from loomax.runtime.compile import map_blocks
from loomax.runtime.mesh import FSDP, REPLICA

try:
    from brax.envs.base import Env, State
    from brax.envs.wrappers.training import AutoResetWrapper, EpisodeWrapper
    from brax.training.acting import generate_unroll
    from brax.training.agents.ppo.networks import make_inference_fn, make_ppo_networks
except ImportError as error:
    raise ValueError("this benchmark needs brax: pip install 'loomax[bench]'") from error


class BraxTabletop(Env):
    """Batched over environments already, in the blocks that keep MJX fast and safe on a CPU.

    (brax's own VmapWrapper steps a batch as a whole, which may hang XLA:CPU; see
    `loomax.runtime.compile`.) Observations are the true state, so nothing is rendered.
    """

    def __init__(self, env: Tabletop):
        self.env = env

    observation_size = property(lambda self: self.env.privileged_size)
    action_size = property(lambda self: self.env.action_size)
    backend = "mjx"

    def reset(self, rng: jax.Array) -> State:
        state = map_blocks(lambda key: self.env.reset(key=key))(jax.random.wrap_key_data(rng))
        return State(state, state.obs["privileged"], state.reward, state.done)

    def step(self, state: State, action: jax.Array) -> State:
        now = map_blocks(self.env.step)(state.pipeline_state, action)
        return state.replace(
            pipeline_state=now, obs=now.obs["privileged"], reward=now.reward, done=now.done
        )


def brax_acting(
    env: Tabletop, mesh: Mesh, unroll: int
) -> tuple[Callable[[jax.Array], Any], Callable[..., Any], Any]:
    """`reset(keys [B])`, `act(params, state, keys [devices])` and parameters.

    brax's PPO networks at their default sizes, its episode and auto-reset wrappers and its
    `generate_unroll`, on every device its share of the environments.
    """
    world = AutoResetWrapper(EpisodeWrapper(BraxTabletop(env), env.horizon, action_repeat=1))
    networks = make_ppo_networks(env.privileged_size, env.action_size)
    make_policy = make_inference_fn(networks)
    keys = jax.random.split(jax.random.key(0))
    params = (None, networks.policy_network.init(jax.random.key_data(keys[0])))
    spread, whole = P((REPLICA, FSDP)), P()

    def act(params, state, keys):
        key = jax.random.key_data(keys)[0]
        return generate_unroll(world, state, make_policy(params), key, unroll, ("truncation",))

    def split(fn, ins, outs):
        return jax.shard_map(fn, mesh=mesh, in_specs=ins, out_specs=outs, check_vma=False)

    reset = split(lambda keys: world.reset(jax.random.key_data(keys)), spread, spread)
    # Transitions are [time, environment].
    return reset, split(act, (whole, spread, spread), (spread, P(None, (REPLICA, FSDP)))), params
