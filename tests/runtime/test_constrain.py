"""Activations stay spread by batch where parameters are spread too."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from loomax.runtime.mesh import FSDP, MeshConfig, batch_sharding, constrain, make_mesh, on_mesh

BATCH, WIDTH, DEPTH, VOCAB = 16, 64, 3, 32


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig())


def layers(tokens, table, weights, pinned):
    def layer(x, w):
        x = constrain(x, "batch", None) if pinned else x
        return jnp.tanh(x @ w), None

    return jax.lax.scan(layer, table[tokens], weights)[0]


def compiled(mesh, pinned):
    def shape(dims, kind, where):
        return jax.ShapeDtypeStruct(dims, kind, sharding=where)

    def program(*args):
        with on_mesh(mesh):
            return layers(*args, pinned)

    by_width = NamedSharding(mesh, P(None, FSDP))
    return (
        jax.jit(program)
        .lower(
            shape((BATCH,), jnp.int32, batch_sharding(mesh)),
            shape((VOCAB, WIDTH), jnp.float32, by_width),
            shape((DEPTH, WIDTH, WIDTH), jnp.float32, by_width),
        )
        .compile()
    )


def test_parameters_come_to_the_batch_not_the_batch_to_the_parameters(mesh):
    products = re.compile(rf"f32\[{BATCH},\d+\]\S* dot\(")
    assert products.search(compiled(mesh, pinned=False).as_text())
    assert not products.search(compiled(mesh, pinned=True).as_text())


def test_values_are_the_same(mesh, key):
    tokens = jax.random.randint(key, (BATCH,), 0, VOCAB)
    table = jax.random.normal(jax.random.fold_in(key, 1), (VOCAB, WIDTH))
    weights = jax.random.normal(jax.random.fold_in(key, 2), (DEPTH, WIDTH, WIDTH)) / 8
    by_width = NamedSharding(mesh, P(None, FSDP))
    found = compiled(mesh, pinned=True)(
        jax.device_put(tokens, batch_sharding(mesh)),
        jax.device_put(table, by_width),
        jax.device_put(weights, by_width),
    )
    expected = layers(tokens, table, weights, pinned=False)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def constraints(program, *args):
    return str(jax.make_jaxpr(program)(*args)).count("sharding_constraint")


def test_nothing_changes_without_need(mesh):
    even, odd = jnp.ones((BATCH, 2)), jnp.ones((BATCH + 1, 2))

    def pin(x):
        return constrain(x, "batch", None)

    assert constraints(pin, even) == 0
    with on_mesh(None):
        assert constraints(pin, even) == 0
    with on_mesh(make_mesh(MeshConfig(), jax.devices()[:1])):
        assert constraints(pin, even) == 0
    with on_mesh(mesh):
        assert constraints(pin, even) == 1
        assert constraints(pin, odd) == 0
        spec = P(FSDP)
        local = jax.shard_map(pin, mesh=mesh, in_specs=spec, out_specs=spec)
        assert constraints(local, even) == 0


def test_unknown_names_are_refused(mesh):
    with on_mesh(mesh), pytest.raises(ValueError, match="did you mean 'batch'"):
        constrain(jnp.ones((BATCH, 2)), "bach", None)
