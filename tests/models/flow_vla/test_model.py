"""Sizes, sampling against the cache, what is trained, and refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loomax.models.flow_vla.config import debug, presets
from loomax.models.flow_vla.model import (
    FlowVLA,
    create,
    is_action_expert,
)
from loomax.models.flow_vla.prefix import encode_prefix, ground, repeat_prefix
from loomax.models.flow_vla.suffix import velocity


def parameter_count(model):
    return sum(int(x.size) for x in jax.tree.leaves(nnx.state(model, nnx.Param)))


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
    graphdef, trained, frozen = nnx.split(policy, is_action_expert, ...)
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
    _, trained, frozen = nnx.split(model, is_action_expert, ...)
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
        ({"readout": False}, "ground=6"),
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
