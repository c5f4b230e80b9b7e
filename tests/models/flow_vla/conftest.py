"""One debug-sized policy with parameters and an observation, made once for the folder."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from loomax.models.flow_vla.config import FlowVLAConfig, debug
from loomax.models.flow_vla.model import FlowVLA, create


def example_observation(config: FlowVLAConfig, batch: int, *, key: jax.Array) -> dict:
    """Random images, instructions of different length, and states."""
    image_key, token_key, state_key = jax.random.split(key, 3)
    images = {
        c.name: jax.random.randint(k, (batch, c.size, c.size, 3), 0, 256).astype(jnp.uint8)
        for c, k in zip(
            config.cameras, jax.random.split(image_key, len(config.cameras)), strict=True
        )
    }
    length = config.text_tokens
    said = jnp.arange(batch)[:, None] % (length - 1) + 1
    return {
        "images": images,
        "tokens": jax.random.randint(token_key, (batch, length), 3, config.vocab),
        "token_mask": jnp.arange(length)[None] < said,
        "state": jax.random.normal(state_key, (batch, config.state_dim)),
    }


@pytest.fixture(scope="module")
def policy() -> FlowVLA:
    graphdef, params = create(debug(), key=jax.random.key(1))
    return nnx.merge(graphdef, params)


@pytest.fixture(scope="module")
def observation() -> dict:
    return example_observation(debug(), 3, key=jax.random.key(2))
