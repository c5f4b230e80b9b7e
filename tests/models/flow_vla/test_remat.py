"""Recomputed layers: the same gradients, behind fences on CPU, and residuals with names."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loomax.jaxlib_ext import fence
from loomax.memory.schedule.policy import value_names
from loomax.models.flow_vla.config import RESIDUALS, FlowVLAConfig, VisionConfig, debug
from loomax.models.flow_vla.loss import noisy_actions
from loomax.models.flow_vla.model import create
from loomax.models.flow_vla.prefix import encode_prefix
from loomax.models.flow_vla.suffix import velocity
from tests.models.flow_vla.conftest import example_observation

CONFIG = replace(debug(), unroll=True)


def loss_of(config: FlowVLAConfig):
    graphdef, params = create(config, key=jax.random.key(0))
    obs = example_observation(config, 2, key=jax.random.key(1))
    shape = (2, 2, config.horizon, config.action_dim)
    actions, noise = jax.random.normal(jax.random.key(2), shape)
    time = jnp.array([0.3, 0.8])
    x, target = noisy_actions(actions, noise, time)

    def loss(params):
        model = nnx.merge(graphdef, params)
        predicted, _ = velocity(model, encode_prefix(model, obs), obs["state"], x, time)
        return jnp.square(predicted - target).mean()

    return loss, params


def test_no_policy_changes_a_gradient():
    def grads(remat):
        loss, params = loss_of(replace(CONFIG, remat=remat))
        quick = {"xla_backend_optimization_level": 0}
        return jax.tree.leaves(jax.jit(jax.grad(loss), compiler_options=quick)(params))

    plain = grads("none")
    assert sum(float(abs(leaf).max()) > 1e-4 for leaf in plain) > len(plain) / 2
    for remat in ("full", "names:attn_out,mlp_hidden"):
        for before, after in zip(plain, grads(remat), strict=True):
            np.testing.assert_allclose(before, after, atol=1e-5)


@pytest.mark.skipif(not fence.available(), reason="no native fence")
def test_unrolled_layers_are_recomputed_behind_fences():
    loss, params = loss_of(replace(CONFIG, remat="full"))
    text = jax.jit(jax.grad(loss)).lower(params).as_text()
    # One in the trunk's layer and one in the expert's. Up to JAX 0.11 the unrolled loops call one
    # function for each kind of layer; later each layer of the two has its own.
    assert text.count(f"@{fence.TARGET}(") in (2, 2 * CONFIG.depth)


@pytest.mark.parametrize("part", ["keypoint", "siglip"])
def test_residuals_are_named_in_every_layer(part):
    config = CONFIG
    if part == "siglip":
        tower = VisionConfig(kind="siglip", patch=4, width=12, depth=2, mlp=16, heads=2)
        config = replace(config, vision=tower, cameras=config.cameras[:1])
    loss, params = loss_of(config)
    assert set(value_names(loss, params)) == set(RESIDUALS)
