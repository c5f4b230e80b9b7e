"""FLOPs of traced programs, against closed forms."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from loomax.runtime.flops import matmul_flops
from loomax.runtime.mesh import FSDP, MeshConfig, make_mesh

N, BATCH, DEPTH = 4, 8, 5
ONE = 2 * BATCH * N * N
X, W = jnp.ones((BATCH, N)), jnp.ones((N, N))


def deep(x, w):
    return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=DEPTH)[0]


def branches(x, w):
    return jax.lax.cond(x[0, 0] > 0, lambda x: (x @ w) @ w, lambda x: x @ w, x)


def spread(x, w):
    mesh = make_mesh(MeshConfig())
    specs = {"in_specs": (P(FSDP), P()), "out_specs": P(FSDP)}
    return jax.shard_map(lambda x, w: x @ w, mesh=mesh, **specs)(x, w)


@pytest.mark.parametrize(
    ("program", "products"),
    [
        (lambda x, w: x @ w + 1, 1),
        (deep, DEPTH),
        (jax.jit(lambda x, w: deep(deep(x, w), w)), 2 * DEPTH),
        (branches, 2),
        (spread, 1),
        # The gradient of a product is two products; the outer ones repeat the forward pass.
        (lambda x, w: jax.grad(lambda w: deep(x, w).sum())(w), 3 * DEPTH),
        (lambda x, w: jax.grad(lambda w: jax.checkpoint(deep)(x, w).sum())(w), 4 * DEPTH),
        (lambda x, w: x + w.sum(), 0),
    ],
)
def test_products_are_counted_with_their_loops(program, products):
    assert matmul_flops(jax.make_jaxpr(program)(X, W)) == products * ONE


def test_batched_products():
    program = jax.make_jaxpr(lambda a, b: jnp.einsum("bij,bjk->bik", a, b))
    found = matmul_flops(program(jnp.ones((3, 2, 5)), jnp.ones((3, 5, 7))))
    assert found == 2 * 3 * 2 * 5 * 7
