"""What counts and what never does, for every architecture; `test_golden` has the values."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loomax.models.flow_vla.config import FlowVLAConfig, VisionConfig, debug
from loomax.models.flow_vla.model import (
    FlowVLA,
    create,
)
from loomax.models.flow_vla.prefix import encode_prefix, pool_prefix
from loomax.models.flow_vla.suffix import velocity
from tests.models.flow_vla.conftest import example_observation

SIGLIP = VisionConfig(kind="siglip", patch=4, width=12, depth=2, mlp=16, heads=2)


def small(**changes) -> FlowVLAConfig:
    plain = dataclasses.replace(
        debug(), prefix_state=False, readout=False, ground=0, state_from_prefix=False
    )
    return dataclasses.replace(plain, **changes)


VARIANTS = {
    "keypoint": debug(),
    "pi0": small(vision=SIGLIP, cameras=debug().cameras[:1], remat="full"),
    "pi05": small(
        vision=SIGLIP,
        cameras=debug().cameras[:1],
        time="adarms",
        state_token=False,
        discrete_state=True,
        unroll=True,
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
