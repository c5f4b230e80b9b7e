"""Sizes, the prefix cache, the block mask and what is trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loomax.models.flow_vla.config import FlowVLAConfig, VisionConfig, debug, presets
from loomax.models.flow_vla.model import (
    FlowVLA,
    create,
    is_action_expert,
    parameter_count,
    split_trainable,
)
from loomax.models.flow_vla.prefix import encode_prefix, ground, pool_prefix, repeat_prefix
from loomax.models.flow_vla.suffix import full_forward, joint_pass, velocity
from tests.models.flow_vla.conftest import example_observation

SIGLIP = VisionConfig(kind="siglip", patch=4, width=12, depth=2, mlp=16, heads=2)


def small(**changes) -> FlowVLAConfig:
    plain = dataclasses.replace(
        debug(), prefix_state=False, readout=False, ground=0, state_from_prefix=False
    )
    return dataclasses.replace(plain, **changes)


VARIANTS = {
    "keypoint": debug(),
    "pi0": small(vision=SIGLIP, cameras=debug().cameras[:1], remat=True),
    "pi05": small(
        vision=SIGLIP, cameras=debug().cameras[:1], time="adarms", state_token=False, unroll=True
    ),
    "groups": small(heads=4, kv_heads=2),
}


def randomised(model: FlowVLA, *, key) -> FlowVLA:
    """Parameters away from zero: adaRMS starts as the identity and would hide mistakes."""
    graphdef, params = nnx.split(model)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    leaves = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return nnx.merge(graphdef, jax.tree.unflatten(tree, leaves))


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request):
    """(model, observation, x, t) of each architecture."""
    config = VARIANTS[request.param]
    keys = jax.random.split(jax.random.key(5), 5)
    model = randomised(nnx.merge(*create(config, key=keys[0])), key=keys[4])
    x = jax.random.normal(keys[1], (3, config.horizon, config.action_dim))
    t = jax.random.uniform(keys[2], (3,))
    return model, example_observation(config, 3, key=keys[3]), x, t


@pytest.mark.parametrize(("name", "count"), [("pi0", 3_238_048_528), ("pi05", 3_353_433_872)])
def test_parameter_count_equals_openpi(name, count):
    model = nnx.eval_shape(lambda: FlowVLA(presets[name](), nnx.Rngs(0)))
    assert parameter_count(model) == count


@pytest.mark.parametrize(
    ("name", "part", "count"),
    [
        ("pi0", "vision", 414_803_696),
        ("pi0", "trunk", 2_508_531_712 - 257_152 * 2048 - 2048),
        ("pi0", "expert", 311_464_960 - 1024),
        ("pi05", "expert", 427_932_672 - (1024 * 3072 + 3072)),
    ],
)
def test_part_counts_equal_openpi(name, part, count):
    model = nnx.eval_shape(lambda: FlowVLA(presets[name](), nnx.Rngs(0)))
    assert parameter_count(getattr(model, part)) == count


def test_tiny_is_about_a_million():
    model = nnx.eval_shape(lambda: FlowVLA(presets["tiny"](), nnx.Rngs(0)))
    assert 0.7e6 < parameter_count(model) < 1.4e6


def test_prefix_cache_gives_the_same_actions(variant):
    model, obs, x, t = variant
    cached, hidden = jax.jit(
        lambda obs, x, t: velocity(model, encode_prefix(model, obs), obs["state"], x, t)
    )(obs, x, t)
    joint, joint_hidden = jax.jit(lambda obs, x, t: full_forward(model, obs, x, t))(obs, x, t)
    assert float(jnp.std(joint)) > 0.05
    np.testing.assert_allclose(cached, joint, atol=2e-5)
    np.testing.assert_allclose(hidden, joint_hidden, atol=2e-5)


def test_sampling_with_and_without_cache(policy, observation, key):
    """Whole denoising loops: the same actions with the prefix encoded once or at every step."""
    x = once = jax.random.normal(key, (3, policy.config.horizon, policy.config.action_dim))
    prefix = encode_prefix(policy, observation)
    step_once = jax.jit(lambda x, t: velocity(policy, prefix, observation["state"], x, t)[0])
    step_full = jax.jit(lambda x, t: full_forward(policy, observation, x, t)[0])
    for t in (1.0, 0.75, 0.5, 0.25):
        once = once - 0.25 * step_once(once, jnp.full((3,), t))
        x = x - 0.25 * step_full(x, jnp.full((3,), t))
    np.testing.assert_allclose(once, x, atol=2e-5)


def test_padded_text_never_matters(variant):
    model, obs, x, t = variant
    garbage = jnp.where(obs["token_mask"], obs["tokens"], 7)
    assert not bool(jnp.array_equal(garbage, obs["tokens"]))

    @jax.jit
    def act(tokens):
        prefix = encode_prefix(model, obs | {"tokens": tokens})
        return velocity(model, prefix, obs["state"], x, t)[0], pool_prefix(prefix)

    for ours, other in zip(act(obs["tokens"]), act(garbage), strict=True):
        np.testing.assert_array_equal(ours, other)


def test_text_matters(variant):
    model, obs, x, t = variant

    @jax.jit
    def act(tokens):
        prefix = encode_prefix(model, obs | {"tokens": tokens})
        return velocity(model, prefix, obs["state"], x, t)[0]

    changed = act(obs["tokens"].at[:, 0].set(9))
    assert float(jnp.abs(changed - act(obs["tokens"])).max()) > 1e-4


def test_masked_image_never_matters(variant):
    model, obs, *_ = variant
    name = model.config.cameras[0].name
    hidden = {"image_mask": {name: jnp.zeros((3,), bool)}}
    black = obs["images"] | {name: jnp.zeros_like(obs["images"][name])}

    @jax.jit
    def pooled(images):
        return pool_prefix(encode_prefix(model, obs | hidden | {"images": images}))

    np.testing.assert_array_equal(pooled(obs["images"]), pooled(black))


def test_blocks_see_only_earlier_blocks(variant):
    """Actions change neither prefix nor state token; the state changes no prefix of its own."""
    model, obs, x, t = variant
    tokens = jax.jit(lambda obs, x: joint_pass(model, obs, x, t)[:2])
    prefix, suffix = tokens(obs, x)
    moved_prefix, moved_suffix = tokens(obs, x.at[:, 0].add(1.0))
    np.testing.assert_array_equal(prefix, moved_prefix)
    states = suffix.shape[1] - model.config.horizon
    np.testing.assert_array_equal(suffix[:, :states], moved_suffix[:, :states])
    # Every action token sees every other.
    assert np.all(np.abs(suffix - moved_suffix)[:, states:].max(-1) > 1e-6)
    if model.config.state_token and not model.config.prefix_state:
        other = tokens(obs | {"state": obs["state"] + 1}, x)
        np.testing.assert_array_equal(prefix, other[0])
        assert np.all(np.abs(suffix - other[1]).max(-1) > 1e-6)


def test_repeated_prefix_equals_repeated_calls(policy, observation, key):
    prefix = encode_prefix(policy, observation)
    x = jax.random.normal(key, (6, policy.config.horizon, policy.config.action_dim))
    t = jnp.linspace(0.1, 0.9, 6)
    both, _ = velocity(policy, prefix, observation["state"], x, t)
    first, _ = velocity(policy, prefix, observation["state"], x[:3], t[:3])
    second, _ = velocity(policy, prefix, observation["state"], x[3:], t[3:])
    np.testing.assert_allclose(both, jnp.concatenate([first, second]), atol=1e-5)
    assert repeat_prefix(prefix, 2).mask.shape[0] == 6


def test_split_separates_the_action_expert(policy):
    graphdef, trained, frozen = split_trainable(policy)
    assert not set(dict(nnx.to_flat_state(trained))) & set(dict(nnx.to_flat_state(frozen)))
    merged = nnx.merge(graphdef, trained, frozen)
    assert parameter_count(merged) == parameter_count(policy)
    assert {path[0] for path, _ in nnx.to_flat_state(frozen)} == {
        "vision", "summary", "embedding", "trunk", "trunk_norm", "prefix_state_proj", "readout",
        "ground",
    }  # fmt: skip
    assert is_action_expert(("expert", "q")) and not is_action_expert(("trunk", "q"))


def test_frozen_split_of_pi0_is_the_vision_language_model():
    model = nnx.eval_shape(lambda: FlowVLA(presets["pi0"](), nnx.Rngs(0)))
    _, trained, frozen = split_trainable(model)
    sizes = [sum(x.size for x in jax.tree.leaves(part)) for part in (trained, frozen)]
    assert sizes == [3_238_048_528 - 2_923_335_408, 2_923_335_408]


def test_state_token_reads_the_grounding(policy, observation, key):
    """The action expert must see what the prefix's last layer found."""
    x = jnp.zeros((3, policy.config.horizon, policy.config.action_dim))
    prefix = encode_prefix(policy, observation)
    moved = prefix.replace(out=prefix.out.at[:, -1].add(1.0))
    t = jnp.full((3,), 0.5)
    before, _ = velocity(policy, prefix, observation["state"], x, t)
    after, _ = velocity(policy, moved, observation["state"], x, t)
    assert ground(policy, prefix).shape == (3, policy.config.ground)
    assert float(jnp.abs(before - after).max()) > 1e-3


def test_bfloat16_stays_near_float32(observation):
    config = dataclasses.replace(debug(), dtype="bfloat16")
    graphdef, params = create(debug(), key=jax.random.key(1))
    x = jax.random.normal(jax.random.key(3), (3, config.horizon, config.action_dim))
    t = jnp.full((3,), 0.5)
    half = nnx.merge(nnx.split(nnx.eval_shape(lambda: FlowVLA(config, nnx.Rngs(0))))[0], params)
    results = []
    for model in (half, nnx.merge(graphdef, params)):
        prefix = encode_prefix(model, observation)
        results.append((prefix, velocity(model, prefix, observation["state"], x, t)))
    assert results[0][0].keys.dtype == jnp.bfloat16 and results[0][1][0].dtype == jnp.float32
    np.testing.assert_allclose(results[0][1][0], results[1][1][0], atol=0.1)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"heads": 3, "kv_heads": 2}, "kv_heads 2"),
        ({"head_dim": 7}, "head_dim 7"),
        ({"readout": False}, "ground=3"),
        ({"state_token": False}, "state_from_prefix"),
        ({"cameras": debug().cameras[:1] * 2}, "camera names"),
    ],
)
def test_inconsistent_config_is_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(debug(), **changes)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"tokens": jnp.zeros((3, 5), jnp.int32)}, r"'tokens' has shape \(3, 5\), expected"),
        ({"images": {"scene": jnp.zeros((3, 16, 16, 3), jnp.uint8)}}, "no image 'wrist'"),
        ({"state": jnp.zeros((3, 2))}, "'state' has shape"),
    ],
)
def test_wrong_observation_is_refused(policy, observation, change, match):
    with pytest.raises(ValueError, match=match):
        encode_prefix(policy, observation | change)


def test_wrong_actions_are_refused(policy, observation):
    prefix = encode_prefix(policy, observation)
    with pytest.raises(ValueError, match="a multiple of 3"):
        velocity(policy, prefix, observation["state"], jnp.zeros((4, 4, 7)), jnp.zeros((4,)))
