"""Policies as words: what they keep, what they refuse, and that no gradient changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from loomax.memory.schedule.policy import check_policy, remat_as, value_names
from loomax.memory.schedule.residuals import named, ranked

WIDTH = 8


def block(p, x):
    """A wide product (cheap a byte), then a narrow one (dear a byte)."""
    wide = checkpoint_name(x @ p["up"], "wide")
    narrow = checkpoint_name(jnp.tanh(wide) @ p["down"], "narrow")
    return x + jnp.sin(narrow)


@pytest.fixture(scope="module")
def data():
    keys = jax.random.split(jax.random.key(0), 3)
    p = {
        "up": jax.random.normal(keys[0], (WIDTH, 4 * WIDTH)) / 4,
        "down": jax.random.normal(keys[1], (4 * WIDTH, WIDTH)) / 4,
    }
    return p, jax.random.normal(keys[2], (5, WIDTH))


def slopes(fn, p, x):
    return jax.grad(lambda p, x: jnp.sum(fn(p, fn(p, x)) ** 2), argnums=(0, 1))(p, x)


@pytest.mark.parametrize(
    "spec", ["full", "dots", "keep:0", "keep:1", "keep:9", "names:wide", "names:wide,narrow"]
)
def test_gradients_are_those_of_the_plain_block(data, spec):
    want = jax.tree.leaves(slopes(block, *data))
    got = jax.tree.leaves(slopes(remat_as(spec, block), *data))
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_none_is_the_block_itself():
    assert remat_as("none", block) is block


def products(spec, data):
    """Products in the backward pass of one block, recomputed ones included."""
    loss = jax.grad(lambda p, x: jnp.sum(remat_as(spec, block)(p, x)), argnums=(0, 1))
    text = str(jax.make_jaxpr(loss)(*data))
    return text.count("dot_general[")


def test_what_is_kept_is_not_computed_again(data):
    # Two forward and four backward, and what is recomputed.
    assert products("none", data) == 6
    assert products("dots", data) == 6
    assert products("full", data) == 8
    assert products("names:wide", data) == 7
    assert products("names:wide,narrow", data) == 6


def test_the_value_that_saves_most_a_byte_is_kept_first(data):
    rank = ranked(block, data)
    # sin's derivative needs the narrow product: 4 times the work of the wide one, a quarter of its
    # bytes; behind it stands the wide one, which the narrow one had needed.
    first, second = rank[:2]
    assert first.bytes == 5 * WIDTH * 4
    assert first.flops == pytest.approx(2 * 5 * WIDTH * 4 * WIDTH, rel=0.2)
    assert second.bytes == 5 * 4 * WIDTH * 4
    assert products("keep:1", data) == 7
    assert products("keep:2", data) == 6


def test_naming_all_values_changes_nothing(data):
    np.testing.assert_array_equal(block(*data), named(block)(*data))
    np.testing.assert_array_equal(block(*data), named(block, [0, 2])(*data))


def test_functions_inside_a_block_are_looked_into(data):
    calls = jax.jit(block)
    assert [r.bytes for r in ranked(calls, data)] == [r.bytes for r in ranked(block, data)]


def test_names_and_their_bytes(data):
    found = value_names(jax.jit(block), *data)
    assert found == {"wide": 5 * 4 * WIDTH * 4, "narrow": 5 * WIDTH * 4}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (True, "remat is True: give a word: 'full'"),
        (False, "remat is False: give a word: 'none'"),
        ("ful", "remat is 'ful': unknown policy 'ful': did you mean full"),
        ("keep", "keep needs a value"),
        ("keep:-1", "keep needs a count of 0 or more"),
        ("full:3", "unknown policy 'full'"),
        ("names:a,,b", "a name is empty"),
    ],
)
def test_what_is_no_policy_is_refused(spec, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        check_policy(spec)


def test_an_unknown_name_is_answered_with_the_nearest(data):
    with pytest.raises(ValueError, match="did you mean narrow"):
        remat_as("names:narow", block)(*data)
    with pytest.raises(ValueError, match="did you mean wide"):
        check_policy("names:wid", known=("wide", "other"))


def test_a_block_without_names_says_so(data):
    with pytest.raises(ValueError, match=r"names no value 'wide', nor any other: use keep:N"):
        remat_as("names:wide", lambda p, x: x @ p["up"])(*data)


def test_a_family_name_that_one_block_lacks_is_no_mistake(data):
    fn = remat_as("names:wide,other", block, known=("wide", "other"))
    np.testing.assert_allclose(fn(*data), block(*data), rtol=1e-6)


def test_offloading_on_a_cpu_is_refused(data):
    with pytest.raises(ValueError, match="a CPU has no other memory: use names"):
        remat_as("offload:wide", block)(*data)


@pytest.mark.parametrize("spec", ["full", "dots", "keep:1", "names:wide"])
def test_a_block_may_branch_on_python_flags(data, spec):
    def flagged(p, x, *, train=False, power=1):
        x = block(p, x)
        return (jnp.sin(x) if train else x) ** power

    under = remat_as(spec, flagged)
    for flags in ({"train": True}, {"power": 2}, {"train": True, "power": 3}, {"train": 1}):
        want, got = (
            jax.grad(lambda p, f=f, flags=flags: jnp.sum(f(p, data[1], **flags)))(data[0])
            for f in (flagged, under)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)
