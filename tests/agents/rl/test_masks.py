"""Masks against loops over single environments and cases worked out by hand."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.agents.rl import masks

SHAPE = (3, 4, 5)


def brute_validity(done, auto_reset):
    valid = np.zeros(done.shape, bool)
    for b in range(done.shape[2]):
        over = False
        for t in range(done.shape[0]):
            over = over and not auto_reset
            for c in range(done.shape[1]):
                valid[t, c, b] = not over
                over = over or done[t, c, b]
    return valid


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.booleans())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_step_validity_equals_a_loop(seed, rate, auto_reset):
    done = np.random.default_rng(seed).random(SHAPE) < rate
    got = masks.step_validity(jnp.asarray(done), auto_reset)
    np.testing.assert_array_equal(got, brute_validity(done, auto_reset))


def test_step_validity_by_hand_with_a_flag_that_stays_up():
    done = jnp.asarray([[0, 1, 1], [0, 0, 0]], bool)[..., None]
    reset = masks.step_validity(done, True)[..., 0]
    still = masks.step_validity(done, False)[..., 0]
    np.testing.assert_array_equal(reset, [[True, True, False], [True, True, True]])
    np.testing.assert_array_equal(still, [[True, True, False], [False, False, False]])


def test_chunk_sum_ignores_what_invalid_steps_hold():
    valid = jnp.asarray([[True, True, False], [False, False, False]])[..., None]
    x = jnp.asarray([[1.0, 2.0, jnp.nan], [jnp.inf, -jnp.inf, 5.0]])[..., None]
    np.testing.assert_array_equal(masks.chunk_sum(x, valid)[:, 0], [3.0, 0.0])
    np.testing.assert_array_equal(masks.chunk_valid(valid)[:, 0], [True, False])


def test_last_step_is_where_the_episode_ended():
    valid = jnp.asarray([[1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 0, 0]], bool)[..., None]
    flag = jnp.asarray([1, 1, 0, 1], bool)[:, None]
    got = masks.last_step(flag, valid)[..., 0]
    np.testing.assert_array_equal(got, [[0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]])


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=20, deadline=None, derandomize=True)
def test_last_step_recovers_the_flags(seed, auto_reset):
    done = jnp.asarray(np.random.default_rng(seed).random(SHAPE) < 0.2)
    valid = masks.step_validity(done, auto_reset)
    ended = done & valid
    np.testing.assert_array_equal(masks.last_step(ended.any(axis=1), valid), ended)


def test_active_dims_by_count_and_by_index():
    np.testing.assert_array_equal(
        masks.active_dims(3, 4, 2, 3), [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(masks.active_dims(2, 4, 1, (0, 3)), [[1, 0, 0, 1], [0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("chunk", "dims", "named"),
    [(0, 2, "chunk=0"), (4, 2, "chunk=4"), (2, 5, "action_dims=5"), (2, 0, "action_dims=0")]
    + [(2, (), "action_dims"), (2, (0, 4), "dimensions 0 to 3"), (2, (-1,), "dimensions 0 to 3")],
)
def test_active_dims_that_do_not_fit_are_refused(chunk, dims, named):
    with pytest.raises(ValueError, match=named):
        masks.active_dims(3, 4, chunk, dims)


def test_element_mask_joins_steps_and_dimensions():
    valid = jnp.asarray([[True, True], [True, False]])
    got = masks.element_mask(valid, masks.active_dims(3, 2, 2, 1))
    assert got.shape == (2, 3, 2)
    np.testing.assert_array_equal(got[:, :, 0], [[1, 1, 0], [1, 0, 0]])
    assert not got[:, :, 1].any()
    with pytest.raises(ValueError, match="exceed the horizon 1"):
        masks.element_mask(valid, jnp.ones((1, 2), bool))


def test_length_weights_by_hand():
    # Environment 0: one episode of 4; environment 1: 1 valid entry, then nothing.
    valid = jnp.asarray([[1, 1], [1, 0], [1, 0], [1, 0]], bool)
    done = jnp.asarray([[0, 1], [0, 0], [0, 0], [1, 0]], bool)
    got = masks.length_weights(valid, done)
    # 5 entries in 2 episodes: 5 / 2 to share by each episode.
    np.testing.assert_allclose(got[:, 0], [0.625] * 4)
    np.testing.assert_allclose(got[:, 1], [2.5, 0, 0, 0])


def test_length_weights_tell_episodes_of_one_environment_apart():
    valid = jnp.ones((6, 1), bool)
    done = jnp.asarray([0, 1, 1, 0, 0, 0], bool)[:, None]
    got = masks.length_weights(valid, done)[:, 0]
    np.testing.assert_allclose(got, 2 * np.array([1 / 2, 1 / 2, 1, 1 / 3, 1 / 3, 1 / 3]), rtol=1e-6)


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_length_weights_give_every_episode_the_same_share(seed, auto_reset):
    done = np.random.default_rng(seed).random(SHAPE) < 0.15
    valid = brute_validity(done, auto_reset)
    got = np.asarray(masks.length_weights(jnp.asarray(valid), jnp.asarray(done)))
    shares = []
    for b in range(SHAPE[2]):
        episode, share = 0.0, 0
        for live, end, weight in zip(*(x[..., b].ravel() for x in (valid, done, got)), strict=True):
            assert (weight > 0) == live
            episode, share = episode + weight * live, share + live
            if end and live:
                shares.append(episode)
                episode, share = 0.0, 0
        if share:
            shares.append(episode)
    np.testing.assert_allclose(shares, valid.sum() / len(shares), rtol=1e-5)


def test_length_weights_of_nothing_are_zero():
    none = jnp.zeros((2, 3), bool)
    np.testing.assert_array_equal(masks.length_weights(none, none), np.zeros((2, 3)))


def test_group_filter_keeps_groups_within_bounds():
    # Means 0, 0.5, 1 of three groups of two.
    returns = jnp.asarray([0.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    kept = masks.group_filter(returns, 2, 0.1, 0.9)
    np.testing.assert_array_equal(kept, [0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(masks.group_filter(returns, 2, low=0.1), [0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(masks.group_filter(returns, 2, high=0.9), [1, 1, 1, 1, 0, 0])
    assert masks.group_filter(returns, 2).all()


def test_group_filter_bounds_belong_to_the_interval():
    for successes in (1, 9):
        returns = jnp.zeros(10).at[:successes].set(1.0)
        assert masks.group_filter(returns, 10, 0.1, 0.9).all()


@pytest.mark.parametrize(
    ("size", "named"), [(1, "at least 2"), (4, "6 environments do not divide")]
)
def test_groups_that_do_not_divide_are_refused(size, named):
    with pytest.raises(ValueError, match=named):
        masks.group_filter(jnp.zeros(6), size)


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match=r"done has shape \(2, 1\), expected \(2, 3\)"):
        # As users call it: the run-time types of the tests would speak first.
        inspect.unwrap(masks.length_weights)(jnp.ones((2, 3), bool), jnp.ones((2, 1), bool))
