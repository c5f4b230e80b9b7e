"""Builds everything that a run is made of from its configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh

from loomax.agents.rl.config import TrainConfig
from loomax.agents.rl.evaluate import Evaluator
from loomax.agents.rl.iteration import Learner, TrainState
from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.agents.rl.mlp_policy import make_mlp_policy
from loomax.agents.rl.needs import check_env
from loomax.agents.rl.policy import FlowPolicy
from loomax.agents.rl.rollout import Actor
from loomax.agents.rl.vla_policy import make_vla_policy
from loomax.envs.registry import make
from loomax.envs.types import Env
from loomax.envs.vector import VectorEnv
from loomax.runtime.mesh import batch_sharding, fsdp_shardings, make_mesh, replicated


@dataclass(frozen=True)
class Parts:
    """The parts of a run.

    Args:
        init_params: `(*, key) -> (trained, frozen)`.
    """

    mesh: Mesh
    env: Env
    policy: FlowPolicy
    actor: Actor
    learner: Learner
    evaluator: Evaluator
    init_params: Callable[..., tuple[Any, Any]]

    @property
    def venv(self) -> VectorEnv:
        """The batched environment of the actor."""
        return self.actor.venv

    def param_shardings(self, params: Any) -> Any:
        """Where parameters lie: large ones in slices, small ones whole."""
        return fsdp_shardings(params, self.mesh)

    def state_shardings(self, state: TrainState) -> TrainState:
        """Where every leaf of a train state lies: environments by batch, parameters by fsdp."""
        batch, whole = batch_sharding(self.mesh), replicated(self.mesh)
        params = {
            name: self.param_shardings(getattr(state, name))
            for name in ("trained", "frozen", "average", "reference", "opt_state")
        }
        worlds = {
            name: jax.tree.map(lambda _: batch, getattr(state, name))
            for name in ("env_state", "obs")
        }
        return state.replace(step=whole, lr_scale=whole, **params, **worlds)


def with_shardings(shapes: Any, shardings: Any) -> Any:
    """Abstract arrays that know where they will lie."""
    return jax.tree.map(
        lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, shardings
    )


def build(config: TrainConfig, mesh: Mesh | None = None, env: Env | None = None) -> Parts:
    """Makes the parts; parameters are not drawn yet.

    Args:
        mesh: devices to use instead of all local ones in the shape that the config says.
        env: an environment to use instead of the one that `config.env` describes.

    Raises:
        ValueError: if the policy does not fit the environment, or the environment lacks what a
            stage needs.
    """
    mesh = make_mesh(config.mesh) if mesh is None else mesh
    given = env is not None
    env = make(config.env) if env is None else env
    check_env(env, config, stepped=given)
    visual = not isinstance(config.policy, MLPPolicyConfig)
    make_policy = make_vla_policy if visual else make_mlp_policy
    policy, _ = make_policy(config.policy, config.rl.sampler, env)

    def init_params(*, key):
        def draw(key):
            return make_policy(config.policy, config.rl.sampler, env, key=key)[1]

        # Drawn in place: at full size no device has room for all of them.
        where = fsdp_shardings(jax.eval_shape(draw, key), mesh)
        return jax.jit(draw, out_shardings=where)(key)

    rollout = config.rl.rollout
    final_images = visual and policy.critic != "privileged"
    venv = VectorEnv(env, mesh, images=visual, final_images=final_images)
    actor = Actor(policy, venv, config.rl.sampler, rollout.chunk, rollout.store_context)
    scored = env.held_out() if hasattr(env, "held_out") else env
    evaluator = Evaluator(
        policy,
        VectorEnv(scored, mesh, images=visual, trace=config.eval.video_episodes > 0),
        chunks=-(-env.horizon // rollout.chunk),
        chunk=rollout.chunk,
        steps=config.rl.sampler.steps,
    )
    return Parts(
        mesh=mesh,
        env=env,
        policy=policy,
        actor=actor,
        learner=Learner(actor, config.rl),
        evaluator=evaluator,
        init_params=init_params,
    )
