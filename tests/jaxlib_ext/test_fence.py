"""Fences return what they get; XLA copies nothing for them and does not look into them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.jaxlib_ext import fence as module
from loomax.jaxlib_ext.fence import available, barrier, fence

needs_native = pytest.mark.skipif(not available(), reason="no native fence")
both = pytest.mark.parametrize("rule", [pytest.param(fence, marks=needs_native), barrier])


@both
def test_values_of_all_types_pass(rule, key):
    values = {
        "bool": jnp.array([True, False]),
        "int8": jnp.array([[-3], [4]], jnp.int8),
        "bfloat16": jnp.array([1.5, -2.0], jnp.bfloat16),
        "scalar": jnp.float32(7.0),
        "empty": jnp.zeros((0, 3)),
        "key": key,
    }
    no_type = np.zeros((2,), jax.dtypes.float0)
    out = jax.jit(lambda v, y: rule(v, (y, no_type)))(values, jnp.ones(3))
    assert jax.random.key_impl(out["key"]) == jax.random.key_impl(key)
    np.testing.assert_array_equal(
        jax.random.key_data(out.pop("key")), jax.random.key_data(values.pop("key"))
    )
    for name, value in values.items():
        assert out[name].dtype == value.dtype
        np.testing.assert_array_equal(out[name], value)


@both
def test_what_is_still_needed_is_not_overwritten(rule):
    x, y = np.arange(4.0, dtype=np.float32), np.full(4, 5.0, np.float32)

    def both_used(x, y):
        z = jnp.cumsum(x)
        return z, 2.0 * rule(z, y), z + y

    z, doubled, total = jax.jit(both_used)(x, y)
    np.testing.assert_array_equal(z, [0, 1, 3, 6])
    np.testing.assert_array_equal(doubled, [0, 2, 6, 12])
    np.testing.assert_array_equal(total, [5, 6, 8, 11])


@both
def test_vmap_adds_no_axis_to_what_has_none(rule):
    xs, w = jnp.arange(6.0).reshape(3, 2), jnp.ones(2)
    x, same = jax.vmap(lambda x: rule((x, w), x.sum()), out_axes=(0, None))(xs)
    np.testing.assert_array_equal(x, xs)
    assert same.shape == w.shape


@both
def test_derivatives_pass(rule):
    # f = sum x^3: gradient 3 x^2, Hessian diag(6 x); what is waited for has no derivative.
    x = jnp.array([1.0, 2.0])

    def cubes(x):
        return rule(x**3, jnp.sin(x)).sum()

    np.testing.assert_allclose(jax.grad(cubes)(x), [3, 12], rtol=1e-6)
    np.testing.assert_allclose(jax.hessian(cubes)(x), [[6, 0], [0, 12]], rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(cubes, (x,), (x,))[1], 27, rtol=1e-6)


@needs_native
def test_the_results_are_the_operands_memory():
    def made_here(x):
        return jnp.sin(fence(2 * x, x))

    compiled = jax.jit(made_here).lower(jnp.ones(1024)).compile()
    (line,) = (line for line in compiled.as_text().splitlines() if "custom-call(" in line)
    assert "output_to_operand_aliasing" in line
    assert compiled.memory_analysis().temp_size_in_bytes < 2 * 1024 * 4
    np.testing.assert_allclose(
        compiled(jnp.arange(1024.0) / 99), np.sin(np.arange(1024) / 49.5), atol=1e-5
    )


@needs_native
def test_shards_stay_where_they_are():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.P("data"))
    x = jax.device_put(jnp.arange(8.0).reshape(4, 2), sharding)
    compiled = jax.jit(lambda x: fence((2 * x, x[0, 0] * 0), jnp.sin(x))[0]).lower(x).compile()
    text = compiled.as_text()
    assert "loomax_fence" in text and "all-gather" not in text
    out = compiled(x)
    assert out.sharding.is_equivalent_to(sharding, 2)
    np.testing.assert_array_equal(out, 2 * np.arange(8.0).reshape(4, 2))


def test_nothing_to_wait_for_is_no_fence():
    assert barrier({"a": 1.0}, ()) == {"a": 1.0}


def test_without_the_library(monkeypatch):
    monkeypatch.setattr(module, "native", lambda: None)
    assert not available.__wrapped__()
    monkeypatch.setattr(module, "available", lambda: False)
    with pytest.raises(RuntimeError, match=r"loomax.jaxlib_ext.build makes it"):
        fence(jnp.ones(2), jnp.ones(2))
