"""A tiny space with a convolution and a transformer stage, its supernet, and compiled programs."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.elastic.config import ConvStageConfig, SupernetConfig, TransformerStageConfig
from loomax.models.elastic.supernet import apply_supernet, init_supernet
from loomax.nas.space.draw import largest, smallest
from loomax.nas.space.encode import encode
from loomax.nas.space.space import Head, Space
from loomax.nas.space.stages import ConvStage, Opening, TransformerStage

# The programs are small and compile for long: less optimisation, the same numbers.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def tiny_space() -> Space:
    opening = Opening("mbconv", 3, expand=2, squeeze=2)
    return Space(
        (
            ConvStage("stem", (4,), (1,), (1,), (1,), 2, opening=Opening("conv", 3)),
            ConvStage("C1", (4, 8), (1, 2, 3), (3, 5), (2, 3), 2, squeeze=2, layerwise=True),
            TransformerStage(
                "T1",
                (8, 12, 16),
                (1, 2),
                opening,
                (1, 2),
                head_dim=4,
                v_scale=(1, 2),
                value_kernel=3,
                stride=2,
                position="bias",
            ),
        ),
        (12, 16),
        Head(5, expand=2, features=6),
    )


def tiny_config(space: Space) -> SupernetConfig:
    return SupernetConfig(
        (
            ConvStageConfig(2, expand=False, opening=3),
            ConvStageConfig(2, squeeze=2),
            TransformerStageConfig(4, 3, True, 2, kernel=3, expand=2, squeeze=2),
        ),
        (encode(space, smallest(space)), encode(space, largest(space))),
        classes=5,
        expand=2,
        features=6,
    )


@pytest.fixture(scope="session")
def net():
    """The space, the supernet with random parameters, images, and gradients by mode."""
    space = tiny_space()
    config = tiny_config(space)
    keys = jax.random.split(jax.random.key(5))
    parameters = init_supernet(config, key=keys[0])
    # Constants too: a bias of 0 would hide a missing mask.
    rng = np.random.default_rng(0)
    parameters = jax.tree.map(
        lambda leaf: jnp.asarray(leaf + rng.normal(0, 0.1, leaf.shape), jnp.float32), parameters
    )
    images = jax.random.normal(keys[1], (3, 16, 16, 3))

    def loss(parameters, sizes, images, mode):
        logits = apply_supernet(config, parameters, sizes, images, mode)
        return (logits * jnp.arange(1.0, 6.0)).mean(), logits

    def gradient(mode):
        def step(parameters, sizes, images):
            return jax.value_and_grad(loss, has_aux=True)(parameters, sizes, images, mode)

        if mode == "static":
            return jax.jit(step, static_argnums=1, compiler_options=QUICK)
        return jax.jit(step, compiler_options=QUICK)

    steps = {mode: gradient(mode) for mode in ("masked", "elastic_switch", "static")}
    return SimpleNamespace(
        space=space,
        config=config,
        parameters=parameters,
        images=images,
        **steps,
    )
