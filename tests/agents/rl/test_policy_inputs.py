"""Every input that a policy claims reaches its actions, and what could not is refused."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.agents.rl.mlp_policy import make_mlp_policy
from loomax.agents.rl.policy_config import PolicyConfig
from loomax.agents.rl.presets import CONFIGS, tabletop_model
from loomax.agents.rl.vla_policy import make_vla_policy
from loomax.envs.point_mass import PointMass
from loomax.envs.point_mass_config import PointMassConfig
from loomax.models.flow_vla import config as models
from loomax.models.flow_vla.sampler_config import SamplerConfig
from loomax.runtime.config import merge

BATCH = 2
# At these sizes nothing takes time but compiling.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class World(PointMass):
    """A world with the tabletop's sizes; only these are asked for here."""

    action_size = 7
    proprio_size = 8
    privileged_size = 3
    instructions = ("pick up the red cube", "pick up the green cube")


ENV = World(PointMassConfig())
SIGLIP = models.VisionConfig(kind="siglip", patch=4, width=12, depth=1, mlp=16, heads=2)


def small(config: models.FlowVLAConfig, **changes) -> models.FlowVLAConfig:
    """A preset's way of being wired, in the sizes of `debug`."""
    sizes = models.debug()
    names = ("vocab", "width", "mlp", "expert_width", "expert_mlp", "depth", "heads", "kv_heads")
    names += ("head_dim", "action_dim", "horizon")
    same = {name: getattr(sizes, name) for name in names}
    vision = SIGLIP if config.vision.kind == "siglip" else sizes.vision
    cameras = sizes.cameras
    if config.vision.kind == "siglip":
        cameras = tuple(models.CameraConfig(c.name, 8) for c in cameras)
    text = 80 if config.discrete_state else 8
    return replace(
        config, unroll=False, **(same | {"vision": vision, "cameras": cameras, "text_tokens": text})
    )


# The wiring of every named model, of what the named runs use, and of mixtures of both.
WIRED = {name: small(make()) for name, make in models.presets.items()}
WIRED |= {
    "tabletop": small(tabletop_model()),
    "keypoints in text": replace(
        small(models.tiny()),
        text_tokens=80,
        state_token=False,
        state_from_prefix=False,
        prefix_state=False,
        discrete_state=True,
    ),
}


def moved(tree, *, key):
    """Away from the start, where adaRMS and zero biases would hide what is read."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        x + 0.2 * jax.random.normal(k, x.shape, x.dtype) for x, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


def observation(config: models.FlowVLAConfig) -> dict:
    keys = jax.random.split(jax.random.key(3), len(config.cameras) + 1)
    return {
        "images": {
            c.name: jax.random.randint(k, (BATCH, c.size, c.size, 3), 0, 256).astype(jnp.uint8)
            for c, k in zip(config.cameras, keys[1:], strict=True)
        },
        "instruction": jnp.array([0, 1]),
        "proprio": jax.random.uniform(keys[0], (BATCH, 8), minval=-0.9, maxval=0.9),
        "privileged": jnp.ones((BATCH, 3)),
    }


@pytest.mark.parametrize("name", WIRED)
def test_every_input_changes_the_actions(name):
    config = WIRED[name]
    key = jax.random.key(0)
    sampler = SamplerConfig(kind="sde", steps=2)
    policy, params = make_vla_policy(PolicyConfig(config), sampler, ENV, key=key)
    params = moved(params, key=jax.random.key(1))

    @quick_jit
    def act(obs, x, t):
        return policy.velocity(params, policy.encode(params, obs), x, t)[0]

    obs = observation(config)
    x = jax.random.normal(jax.random.key(2), (BATCH, config.horizon, config.action_dim))
    t = jnp.array([0.3, 0.8])
    plain = act(obs, x, t)

    def change(**new):
        return np.abs(act(obs | new, x, t) - plain).reshape(BATCH, -1).max(1)

    for camera, image in obs["images"].items():
        darker = (image // 2).astype(jnp.uint8)
        assert np.all(change(images=obs["images"] | {camera: darker}) > 1e-5), camera
    assert np.all(change(instruction=1 - obs["instruction"]) > 1e-5)
    for number in range(8):
        other = obs["proprio"].at[:, number].multiply(-1)
        assert np.all(change(proprio=other) > 1e-5), f"number {number} of the state"
    # The true state is for critics: a policy that read it would act on what it cannot see.
    assert np.all(change(privileged=-obs["privileged"]) == 0)
    for number in range(config.action_dim):
        assert np.all(np.abs(act(obs, x.at[:, :, number].add(1.0), t) - plain).max((1, 2)) > 1e-5)
    assert np.all(np.abs(act(obs, x, t + 0.1) - plain).max((1, 2)) > 1e-5)


def test_every_input_changes_the_actions_of_an_mlp():
    sampler, key = SamplerConfig(kind="sde"), jax.random.key(0)
    policy, params = make_mlp_policy(
        MLPPolicyConfig(), sampler, PointMass(PointMassConfig()), key=key
    )
    state = jax.random.normal(jax.random.key(1), (1, 4))
    x = jnp.ones((1, policy.horizon, policy.action_dim))

    @jax.jit
    def act(state, x, t):
        return policy.velocity(params, policy.encode(params, {"proprio": state}), x, t)[0]

    plain = act(state, x, jnp.array([0.4]))
    for number in range(4):
        assert np.abs(act(state.at[:, number].add(1.0), x, jnp.array([0.4])) - plain).max() > 1e-5
    assert np.abs(act(state, x + 1, jnp.array([0.4])) - plain).max() > 1e-5
    assert np.abs(act(state, x, jnp.array([0.6])) - plain).max() > 1e-5


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"state_token": False}, "state_dim is 32, but nothing reads the state"),
        ({"state_token": False, "time": "adarms"}, "nothing reads the state"),
        ({"discrete_state": True}, "use state_token=False with it"),
        ({"state_dim": 0}, "state_token needs a state, and state_dim is 0"),
        ({"norm_epsilon": 0.0}, "norm_epsilon is 0.0; it must lie between"),
    ],
)
def test_a_state_that_nothing_reads_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        replace(models.pi0(), **fields)


def test_a_prompt_that_does_not_fit_is_refused():
    short = PolicyConfig(replace(WIRED["pi05"], text_tokens=20))
    with pytest.raises(ValueError, match="text_tokens is 20; an instruction with a state of 8"):
        make_vla_policy(short, SamplerConfig(kind="sde"), ENV)
    few = PolicyConfig(replace(WIRED["pi0"], vocab=1000))
    with pytest.raises(ValueError, match="1024 ids and model.vocab is 1000"):
        make_vla_policy(few, SamplerConfig(kind="sde"), ENV)


def test_a_prefix_that_nothing_fits_is_not_trained_behind():
    for name, config in CONFIGS.items():
        if name != "pi0-tabletop":
            config.check_weights()
    big = CONFIGS["pi0-tabletop"]
    with pytest.raises(
        ValueError, match="pi0-tabletop: ground.steps is 0 .* policy.weights=random"
    ):
        big.check_weights()
    replace(big, policy=replace(big.policy, weights="random")).check_weights()
    # Compiling and measuring need no weights; runs from before this field go on.
    big.validate(16)
    assert merge(PolicyConfig(), {"critic": "suffix"}).weights == "random"
