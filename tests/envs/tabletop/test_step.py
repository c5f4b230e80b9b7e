"""Episodes of the table: experts succeed, endings are told apart, nothing becomes infinite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.envs.control.kinematics import forward
from loomax.envs.scene.table import CUBE_HALF, cube_qpos
from loomax.envs.types import Env

pytestmark = pytest.mark.slow


def first(mask) -> np.ndarray:
    """Index of the first True along the last axis."""
    return np.argmax(np.asarray(mask), axis=-1)


@pytest.fixture(scope="module")
def picked(picking):
    return picking.expert(0)[1]


@pytest.fixture(scope="module")
def wandered(picking):
    return picking.random(1)


@pytest.fixture(scope="module")
def placed(placing):
    return placing.expert(0)[1]


def test_it_is_an_environment(picking):
    assert isinstance(picking.env, Env)


def test_reset_and_step_give_one_structure(picking):
    start = jax.eval_shape(lambda k: picking.env.reset(key=k), jax.random.key(0))
    action = jax.ShapeDtypeStruct((7,), jnp.float32)
    after = jax.eval_shape(picking.env.step, start, action)
    assert jax.tree.structure(start) == jax.tree.structure(after)
    for before, now in zip(jax.tree.leaves(start), jax.tree.leaves(after), strict=True):
        assert (before.shape, before.dtype) == (now.shape, now.dtype)
        assert before.weak_type == now.weak_type


def test_the_expert_picks(picked):
    assert picked.info["success"][:, 34].mean() == 1.0
    assert np.median(first(picked.done)) < 25


def test_the_expert_picks_under_noise(picking):
    _, states = picking.expert(2, noise=0.1)
    assert states.info["success"][:, 34].mean() > 0.96


def test_the_expert_places(placed):
    assert placed.info["success"][:, 59].mean() > 0.96
    assert np.median(first(placed.done)) < 45


def test_success_is_what_the_physics_shows(picking, picked):
    """Recomputed from raw positions: the named cube, and no other, rose by 4 cm."""
    qpos = np.asarray(picked.data.physics.qpos)
    target = np.asarray(picked.data.target)[:, 0]
    ended = first(picked.done)
    for i in range(picking.batch):
        heights = qpos[i, :, [cube_qpos(k) + 2 for k in range(2)]] - CUBE_HALF
        assert heights[target[i], ended[i]] > 0.04
        assert heights[target[i], : ended[i]].max() <= 0.04
        assert heights[1 - target[i]].max() < 0.02


def test_placed_cubes_lie_on_the_named_disc(placing, placed):
    ended = first(placed.done)
    for i in np.flatnonzero(placed.info["success"][:, -1]):
        world = jax.tree.map(lambda x, i=i: x[i, ended[i]], placed.data)
        slot = cube_qpos(int(world.target))
        away = world.physics.qpos[slot : slot + 2] - world.discs[int(world.goal)]
        assert jnp.linalg.norm(away) < placing.env.config.place_radius
        assert world.physics.qpos[7:9].sum() > 0.06 and world.lifted == 1


def test_success_is_rewarded_once_when_sparse(placing, placed):
    rewards = np.asarray(placed.reward)
    assert set(np.unique(rewards)) == {0.0, 1.0}
    np.testing.assert_array_equal(rewards.sum(1), placed.info["success"][:, -1])
    np.testing.assert_array_equal(rewards.argmax(1), first(placed.done))


def test_shaped_rewards_add_up_to_the_potential(picking, picked):
    """Differences of a potential in [0, 1], and 1 at success."""
    rewards, ended = np.asarray(picked.reward), first(picked.done)
    totals = np.array([rewards[i, : ended[i] + 1].sum() for i in range(picking.batch)])
    assert (totals > 1.5).all() and (totals <= 2.0).all()
    jumps = rewards[np.arange(picking.batch), ended]
    assert (jumps > 0.9).all() and np.abs(rewards[:, 1:5]).max() < 0.3


def test_success_terminates_and_time_truncates(picking, picked, wandered):
    _, random = wandered
    for states in (picked, random):
        success = np.asarray(states.info["success"], bool)
        terminated = np.asarray(states.info["terminated"], bool)
        truncated = np.asarray(states.info["truncated"], bool)
        late = np.asarray(states.info["steps"]) >= picking.env.horizon
        np.testing.assert_array_equal(terminated, success)
        np.testing.assert_array_equal(truncated, late & ~success)
        np.testing.assert_array_equal(np.asarray(states.done, bool), terminated | truncated)
    np.testing.assert_array_equal(random.info["steps"][0], np.arange(1, picking.steps + 1))
    assert np.asarray(random.info["truncated"])[:, 34].mean() > 0.8
    assert not np.asarray(random.info["truncated"])[:, 33].any()


def test_success_stays(picked):
    assert (np.diff(np.asarray(picked.info["success"]), axis=1) >= 0).all()


def test_random_actions_for_two_hundred_steps_stay_finite(picking, wandered):
    """Far beyond the end of the episode."""
    last, _ = wandered
    rng = np.random.default_rng(0)
    for _ in range(4):
        actions = rng.uniform(-1, 1, (picking.batch, picking.steps, 7)).astype(np.float32)
        last, states = picking.play(last, actions, np.zeros(picking.batch, bool))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states))
    assert int(last.info["steps"][0]) == 200
    qpos = np.asarray(last.data.physics.qpos)
    assert (qpos[:, [cube_qpos(k) + 2 for k in range(2)]] > 0.0).all()


def test_observations_stay_in_range(picking, wandered, picked):
    for states in (wandered[1], picked):
        assert np.abs(states.obs["proprio"]).max() < 4.0
        assert np.abs(states.obs["privileged"]).max() <= 10.0
    assert states.obs["proprio"].shape[-1] == picking.env.proprio_size
    assert states.obs["privileged"].shape[-1] == picking.env.privileged_size


def test_the_tool_follows_its_target(wandered):
    """Servos have a time constant of a tenth of a second: ten centimetres at full speed."""
    _, states = wandered
    tcp = forward(states.data.physics.qpos[..., :7]).tcp
    lag = np.linalg.norm(np.asarray(tcp - states.data.control.position), axis=-1)
    assert np.median(lag) < 0.06 and lag.max() < 0.2


def test_the_same_actions_give_the_same_states(picking, wandered):
    again = picking.random(1)[1]
    for one, two in zip(jax.tree.leaves(wandered[1]), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, two)


def test_nothing_happens_to_cubes_that_nobody_touches(picking):
    """The arm holds still: cubes stay where they were put."""
    start = picking.start(4)
    still = np.zeros((picking.batch, picking.steps, 7), np.float32)
    still[..., 6] = -1.0
    last, _ = picking.play(start, still, np.zeros(picking.batch, bool))
    moved = np.asarray(last.data.physics.qpos - start.data.physics.qpos)
    assert np.abs(moved).max() < 1e-3
