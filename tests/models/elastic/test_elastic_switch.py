"""The switch against its branches, called plainly; what it stores against other switches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.elastic.elastic_switch import elastic_switch

BRANCHES = (
    lambda p, x, shift: jnp.sin(x @ p["a"]) * p["b"] + shift,
    lambda p, x, shift: x * jnp.exp(p["b"]) - shift,
    lambda p, x, shift: x,
)


@pytest.fixture(scope="module")
def operands():
    a, b, x = (
        jax.random.normal(k, s)
        for k, s in zip(jax.random.split(jax.random.key(3), 3), [(4, 4), (4,), (5, 4)], strict=True)
    )
    return {"a": a, "b": b}, x, jnp.int32(2)


def switched(index, params, x, shift):
    return jnp.sum(elastic_switch(index, BRANCHES, params, x, shift) ** 2)


@pytest.fixture(scope="module")
def gradient():
    return jax.jit(jax.value_and_grad(switched, argnums=(1, 2)))


@pytest.mark.parametrize("index", [-1, 0, 1, 2, 9])
def test_value_and_gradient_are_those_of_the_branch(index, operands, gradient):
    branch = BRANCHES[min(max(index, 0), 2)]
    ours = gradient(jnp.int32(index), *operands)
    plain = jax.value_and_grad(lambda p, x: jnp.sum(branch(p, x, 2) ** 2), argnums=(0, 1))
    expected = plain(*operands[:2])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6), ours, expected
    )
    assert gradient._cache_size() == 1


def test_parameters_of_other_branches_get_exactly_nothing(operands, gradient):
    _, (params, x) = gradient(jnp.int32(2), *operands)
    assert not params["a"].any() and not params["b"].any()
    np.testing.assert_array_equal(x, 2 * operands[1])


def test_integer_and_several_results():
    branches = (lambda n, x: (n + 1, x**2), lambda n, x: (n * 2, -x))

    def loss(x, index):
        count, y = elastic_switch(index, branches, jnp.int32(5), x)
        return y * count, count

    gradients = [jax.grad(loss, has_aux=True)(3.0, index) for index in range(2)]
    assert [(float(slope), int(count)) for slope, count in gradients] == [(36.0, 6), (-10.0, 10)]


def test_under_scan_each_step_takes_its_branch(operands):
    params, x, shift = operands
    indices = jnp.array([1, 2, 0])

    def scanned(x, params):
        step = lambda x, i: (elastic_switch(i, BRANCHES, params, x, shift), None)  # noqa: E731
        return jax.lax.scan(step, x, indices)[0].sum()

    def unrolled(x, params):
        for i in (1, 2, 0):
            x = BRANCHES[i](params, x, shift)
        return x.sum()

    ours, expected = (jax.grad(f, argnums=(0, 1))(x, params) for f in (scanned, unrolled))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, expected
    )


def test_under_vmap_over_data_it_stays_a_switch(operands):
    params, x, shift = operands

    def loss(index, params, x):
        return jax.vmap(lambda row: switched(index, params, row, shift))(x).sum()

    step = jax.jit(jax.grad(loss, argnums=(1, 2)))
    ours = step(jnp.int32(0), params, x)
    expected = jax.grad(lambda p, x: jnp.sum(BRANCHES[0](p, x, shift) ** 2), argnums=(0, 1))(
        params, x
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, expected
    )
    assert "stablehlo.case" in step.lower(jnp.int32(0), params, x).as_text()


def test_no_branches_are_refused():
    with pytest.raises(ValueError, match="0 branches: give at least 1"):
        elastic_switch(0, [], 1.0)


def temp_bytes(switch, widths):
    """Temporary memory of the gradient of eight layers with branches of these widths."""

    def branch(width):
        def run(w, x):
            y = x
            for _ in range(3):
                y = jnp.tanh(y @ w[:, :width]) @ w[:, :width].T
            return y

        return run

    def loss(w, x, indices):
        branches = [branch(width) for width in widths]
        step = lambda x, wi: (switch(wi[1], branches, wi[0], x), None)  # noqa: E731
        return jax.lax.scan(step, x, (w, indices))[0].sum()

    shapes = [((8, 16, 64), jnp.float32), ((256, 16), jnp.float32), ((8,), jnp.int32)]
    arguments = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    compiled = jax.jit(jax.grad(loss)).lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_only_the_chosen_branch_has_residuals():
    """Ours holds the layers' inputs, and one branch at work, however many branches there are."""
    one, four = temp_bytes(elastic_switch, (64,)), temp_bytes(elastic_switch, (64, 48, 32, 16))
    plain_one, plain = (
        temp_bytes(jax.lax.switch, (64,)),
        temp_bytes(jax.lax.switch, (64, 48, 32, 16)),
    )
    assert four < 1.2 * one
    assert plain > 1.8 * plain_one
    assert 4 * four < plain
