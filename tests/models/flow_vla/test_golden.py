"""Whole policies against NumPy in float64 (`golden`): pi0, pi0.5 and the small ones."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loomax.models.flow_vla.config import debug
from loomax.models.flow_vla.model import create
from loomax.models.flow_vla.prefix import encode_prefix
from loomax.models.flow_vla.sampler import sample_chain
from loomax.models.flow_vla.sampler_config import SamplerConfig
from loomax.models.flow_vla.suffix import velocity
from tests.models.flow_vla import golden
from tests.models.flow_vla.conftest import example_observation
from tests.models.flow_vla.test_blocks import VARIANTS, randomised
from tests.models.lm.conftest import quick_jit

MODELS = VARIANTS | {
    "another epsilon": replace(VARIANTS["groups"], norm_epsilon=0.05),
    "no grounding": replace(debug(), ground=0, prefix_state=False),
}
BATCH, STEPS = 2, 3


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    """Configuration, parameters, an observation with a hidden image, actions and times."""
    config = MODELS[request.param]
    keys = jax.random.split(jax.random.key(7), 4)
    model = randomised(nnx.merge(*create(config, key=keys[0])), key=keys[1])
    graphdef, params = nnx.split(model)
    obs = example_observation(config, BATCH, key=keys[2])
    hidden = {config.cameras[0].name: jnp.array([True, False])}
    obs |= {"image_mask": hidden}
    x = jax.random.normal(keys[3], (BATCH, config.horizon, config.action_dim))

    def run(params, obs, x, t):
        model = nnx.merge(graphdef, params)
        return velocity(model, encode_prefix(model, obs), obs["state"], x, t)

    return config, params, obs, x, quick_jit(run)


def expected(config, params, obs, x, t):
    """Velocities and hidden states, sample by sample."""
    plain = nnx.to_pure_dict(params)
    rows = []
    for row in range(BATCH):
        one = jax.tree.map(lambda leaf, row=row: np.asarray(leaf[row]), obs)
        rows.append(golden.velocity(config, plain, one, np.float64(x[row]), float(t[row])))
    return tuple(map(np.array, zip(*rows, strict=True)))


def test_the_velocity_is_the_formulas(case):
    config, params, obs, x, run = case
    t = jnp.array([0.125, 0.75])
    for found, want in zip(
        run(params, obs, x, t), expected(config, params, obs, x, t), strict=True
    ):
        assert want.std() > 0.05
        np.testing.assert_allclose(found, want, atol=1e-4 * np.abs(want).max())


def test_actions_are_noise_minus_steps_of_the_velocity():
    """Euler's rule from t = 1 (noise) to t = 0 with the reference's velocities."""
    config = VARIANTS["pi0"]
    keys = jax.random.split(jax.random.key(8), 4)
    graphdef, params = nnx.split(randomised(nnx.merge(*create(config, key=keys[0])), key=keys[1]))
    obs = example_observation(config, BATCH, key=keys[2])
    noise = jax.random.normal(keys[3], (BATCH, config.horizon, config.action_dim))

    @quick_jit
    def act(params, obs, noise):
        model = nnx.merge(graphdef, params)
        prefix = encode_prefix(model, obs)

        def field(x, t):
            return velocity(model, prefix, obs["state"], x, t)

        sampler = SamplerConfig(kind="ode", steps=STEPS)
        return sample_chain(sampler, field, None, noise, key=jax.random.key(0)).xs[-1]

    x = np.asarray(noise, np.float64)
    for step in range(STEPS):
        t = np.full(BATCH, 1 - step / STEPS)
        x = x - expected(config, params, obs, x, t)[0] / STEPS
    np.testing.assert_allclose(act(params, obs, noise), x, atol=2e-4 * np.abs(x).max())
