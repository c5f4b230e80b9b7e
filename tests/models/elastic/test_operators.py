"""Operators at active sizes inside larger arrays, against NumPy in float64 at those sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.elastic.active import keep, keep_centre, layer_norm
from loomax.models.elastic.attention import relative_bias
from loomax.models.elastic.feed_forward import FEED_FORWARD, FeedForwardSizes, feed_forward
from loomax.models.elastic.leaves import draw, shape_of
from loomax.models.elastic.operator import lane_index
from loomax.models.initialise import FlatDraws


def normalised(x, scale, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * scale + bias


def test_layer_norm_counts_active_channels_only():
    rng = np.random.default_rng(1)
    x, scale, bias = rng.normal(2, 3, (4, 5)), rng.normal(size=5), rng.normal(size=5)
    x[:, 3:] = 0
    given = [jnp.asarray(a, jnp.float32) for a in (x, scale, bias)]
    ours = layer_norm(*given, jnp.int32(3))
    np.testing.assert_allclose(ours[:, :3], normalised(x[:, :3], scale[:3], bias[:3]), atol=1e-5)
    assert not np.asarray(ours[:, 3:]).any()


def test_feed_forward_at_a_part_of_its_width():
    largest, active = FeedForwardSizes(6, 9), FeedForwardSizes(4, 5)
    numbers = jnp.asarray(np.random.default_rng(2).normal(size=400), jnp.float32)
    p = draw(FEED_FORWARD, largest, FlatDraws(numbers, jax.random.key(0)))
    p |= {"up_bias": numbers[:9], "down_bias": numbers[9:15]}
    x = keep(numbers[:18].reshape(3, 6), 4)
    ours = feed_forward(p, x, FeedForwardSizes(jnp.int32(4), jnp.int32(5)))

    def part(name):
        return np.asarray(p[name], np.float64)[
            tuple(slice(n) for n in shape_of(FEED_FORWARD[name], active))
        ]

    small = np.asarray(x, np.float64)[:, :4]
    y = normalised(small, part("norm_scale"), part("norm_bias")) @ part("up") + part("up_bias")
    y = y * np.clip(y + 3, 0, 6) / 6
    np.testing.assert_allclose(ours[:, :4], small + y @ part("down") + part("down_bias"), atol=1e-5)
    assert not np.asarray(ours[:, 4:]).any()


def test_a_smaller_kernel_is_the_middle():
    kernel = jnp.arange(1.0, 26.0).reshape(5, 5, 1, 1)
    expected = np.zeros((5, 5))
    expected[1:4, 1:4] = np.arange(1, 26).reshape(5, 5)[1:4, 1:4]
    np.testing.assert_array_equal(keep_centre(kernel, jnp.int32(3))[..., 0, 0], expected)
    np.testing.assert_array_equal(keep_centre(kernel, 5), kernel)


def test_relative_positions_are_differences():
    table = jnp.asarray(np.random.default_rng(3).normal(size=(5, 5, 2)), jnp.float32)
    ours = relative_bias(table, 2)
    for q, k in np.ndindex(4, 4):
        rows, columns = q // 2 - k // 2, q % 2 - k % 2
        np.testing.assert_array_equal(ours[:, q, k], table[2 + rows, 2 + columns])
    with pytest.raises(ValueError, match="4 x 4 tokens: give at most 3"):
        relative_bias(table, 4)


@pytest.mark.parametrize(
    ("sizes", "lane"), [((2, 3), 0), ((3, 3), 1), ((1, 5), 2), ((8, 9), 2), ((0, 0), 1)]
)
def test_the_first_lane_that_covers_and_the_smallest_one_if_exact(sizes, lane):
    lanes = tuple(FeedForwardSizes(*row) for row in ((2, 3), (4, 4), (8, 9)))
    active = FeedForwardSizes(*(jnp.int32(size) for size in sizes))
    assert int(lane_index(lanes, active)) == lane
