"""Which residuals wait: by hand, and on random cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.memory.schedule.held import array_bytes, choose, recomputed

N = 8


def work_of(backward, residuals):
    args = (*residuals, jnp.ones(N))
    return recomputed(jax.make_jaxpr(backward)(*args), len(residuals))


def test_only_what_needs_no_cotangent_counts():
    # sin(x) is recomputed (4 N bytes, from residual 0); nothing else can be without the cotangent.
    assert work_of(lambda x, g: jnp.sin(x) * g, [jnp.ones(N)]) == [(4 * N, 0b1)]


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint])
def test_calls_are_followed_argument_by_argument(wrap):
    def backward(x, w, g):
        a, b = wrap(lambda x, w, g: (jnp.cos(w), g * x))(x, w, g)
        return a * b

    assert work_of(backward, [jnp.ones(N), jnp.ones(N)]) == [(4 * N, 0b10)]


def test_a_loop_counts_by_its_results():
    def backward(x, g):
        y, _ = jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=5)
        return y * g

    assert work_of(backward, [jnp.ones(N)]) == [(4 * N, 0b1)]


def test_the_activation_waits_and_not_the_weights():
    x, w, v = jnp.ones((64, 4)), jnp.ones((4, 16)), jnp.ones((16, 4))
    y, pullback = jax.vjp(jax.checkpoint(lambda x, w, v: jnp.tanh(jnp.sin(x) @ w) @ v), x, w, v)
    residuals, tree = jax.tree.flatten(pullback)
    jaxpr = jax.make_jaxpr(lambda r, g: tree.unflatten(r)(g))(residuals, y)
    sizes = [array_bytes(r) for r in residuals]
    held = choose(sizes, recomputed(jaxpr, len(residuals)))
    assert [residuals[i].shape for i in held] == [x.shape]


def test_a_small_one_that_makes_much_waits_too(key):
    # The activation (0) makes 300 bytes; a key (1, no bytes) makes a mask of its own.
    assert choose([100, 0], [(300, 0b01), (50, 0b10), (300, 0b11)]) == [0, 1]
    assert array_bytes(key) == 0 and array_bytes(jnp.ones(3, jnp.bfloat16)) == 6


def test_what_costs_more_than_it_holds_is_left():
    assert choose([100], [(100, 0b1)]) == []
    assert choose([90, 80], [(100, 0b11)]) == [1]
    # The first holds back more, but is not worth it; that says nothing about the second.
    assert choose([100, 5], [(100, 0b01), (50, 0b10)]) == [1]
    assert choose([], []) == []


@pytest.mark.parametrize("seed", range(20))
def test_no_other_residual_is_worth_it(seed):
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 40, 5).tolist()
    work = [(int(draw.integers(1, 40)), int(draw.integers(1, 32))) for _ in range(8)]

    def left(held):
        return sum(b for b, mask in work if not any(mask >> i & 1 for i in held))

    held = choose(sizes, work)
    for i in set(range(5)) - set(held):
        assert left(held) - left([*held, i]) <= sizes[i]
