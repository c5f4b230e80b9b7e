"""Many environments as one: held still at the end, reset afresh, blocks and devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from loomax.envs.point_mass import Plane, PointMass
from loomax.envs.point_mass_config import PointMassConfig
from loomax.envs.vector import VectorEnv
from loomax.runtime.mesh import MeshConfig, make_mesh

BATCH, CHUNK = 8, 4
EAST = jnp.array([1.0, 0.0])


class Pictured(PointMass):
    """The point mass with an image of two pixels: its position and its goal."""

    def render(self, state):
        return {"plane": jnp.stack([state.data.point, state.data.goal])}


def leaves_equal(one, other):
    for path, leaf in jax.tree_util.tree_leaves_with_path(one):
        twin = dict(jax.tree_util.tree_leaves_with_path(other))[path]
        np.testing.assert_array_equal(leaf, twin, err_msg=jax.tree_util.keystr(path))


def placed(venv: VectorEnv, distance: float):
    """States whose goals lie `distance` to the east of their points."""
    state, _ = venv.reset(jax.random.split(jax.random.key(3), BATCH))
    goal = state.data.point + distance * EAST
    return state.replace(data=Plane(state.data.point, goal))


@pytest.fixture(scope="module")
def short():
    """Episodes of three steps without a reachable goal, in chunks of four."""
    return VectorEnv(PointMass(PointMassConfig(horizon=3, radius=1e-6)), images=False)


@pytest.fixture(scope="module")
def endless():
    """Episodes that end by success only: 0.25 a step, radius 0.15."""
    return VectorEnv(PointMass(PointMassConfig(horizon=100)), images=False)


def go_east():
    return jnp.broadcast_to(0.5 * EAST, (BATCH, CHUNK, 2))


def test_a_chunk_freezes_at_the_time_limit(short, key):
    state, _ = short.reset(jax.random.split(key, BATCH))
    reached, _, outcome = jax.jit(short.chunk)(state, go_east())
    np.testing.assert_array_equal(outcome.valid, [[True, True, True, False]] * BATCH)
    np.testing.assert_array_equal(outcome.reward[:, 3], 0.0)
    assert np.all(np.asarray(outcome.reward[:, :3]) != 0)
    assert outcome.truncated.all() and not outcome.terminated.any()
    by_hand = state
    for _ in range(3):
        by_hand = jax.jit(jax.vmap(lambda s: short.env.step(s, 0.5 * EAST)))(by_hand)
    leaves_equal(reached, by_hand)


def test_an_ended_episode_stays_as_it_was(short, key):
    state, _ = short.reset(jax.random.split(key, BATCH))
    chunk = jax.jit(short.chunk)
    ended, _, _ = chunk(state, go_east())
    again, _, outcome = chunk(ended, go_east())
    leaves_equal(again, ended)
    assert not outcome.valid.any() and not outcome.reward.any()
    assert not outcome.truncated.any() and not outcome.terminated.any()


def test_a_chunk_freezes_at_success(endless):
    # 0.6 away: 0.35 and then 0.1, which is inside the radius, after two full steps.
    state = placed(endless, 0.6)
    actions = jnp.broadcast_to(EAST, (BATCH, CHUNK, 2))
    reached, _, outcome = jax.jit(endless.chunk)(state, actions)
    np.testing.assert_array_equal(outcome.valid, [[True, True, False, False]] * BATCH)
    np.testing.assert_allclose(outcome.reward, [[0.25, 1.25, 0, 0]] * BATCH, atol=1e-6)
    assert outcome.terminated.all() and outcome.success.all() and not outcome.truncated.any()
    moved = np.asarray(reached.data.point - state.data.point)
    np.testing.assert_allclose(moved, [[0.5, 0.0]] * BATCH, atol=1e-6)


def test_reset_draws_fresh_episodes_where_one_ended(endless, key):
    # Half of them succeed in this chunk.
    near, far = placed(endless, 0.6), placed(endless, 1.9)
    ends = np.arange(BATCH) % 2 == 0
    state = jax.vmap(lambda e, a, b: jax.tree.map(lambda x, y: jnp.where(e, x, y), a, b))(
        ends, near, far
    )
    actions = jnp.broadcast_to(EAST, (BATCH, CHUNK, 2))
    keys = jax.random.split(key, BATCH)
    following, obs, outcome = jax.jit(endless.chunk)(state, actions, jax.random.clone(keys))
    held, _, _ = jax.jit(endless.chunk)(state, actions)
    fresh = jax.vmap(lambda k: endless.env.reset(key=k))(keys)
    np.testing.assert_array_equal(outcome.terminated, ends)
    leaves_equal(jax.tree.map(lambda x: x[ends], following), jax.tree.map(lambda x: x[ends], fresh))
    leaves_equal(
        jax.tree.map(lambda x: x[~ends], following), jax.tree.map(lambda x: x[~ends], held)
    )
    # Drawn anew: unlike each other, and unlike what they replace.
    points = np.asarray(following.data.point)[ends]
    assert len(np.unique(points, axis=0)) == ends.sum()
    assert not np.isin(points, np.asarray(state.data.point)).any()
    np.testing.assert_array_equal(following.info["steps"], np.where(ends, 0, CHUNK))
    leaves_equal(obs, following.obs)


def test_the_final_observation_is_the_terminal_one(endless, key):
    state = placed(endless, 0.6)
    actions = jnp.broadcast_to(EAST, (BATCH, CHUNK, 2))
    _, obs, outcome = jax.jit(endless.chunk)(state, actions, jax.random.split(key, BATCH))
    left = np.asarray(outcome.final_obs["proprio"])[:, 2:]
    np.testing.assert_allclose(left, [[0.1, 0.0]] * BATCH, atol=1e-6)
    assert np.all(np.abs(np.asarray(obs["proprio"])[:, 2:] - left).max(-1) > 1e-3)


def test_images_are_those_of_the_boundary_and_of_the_end(key):
    env = Pictured(PointMassConfig(horizon=100))
    venv = VectorEnv(env, images=True, final_images=True)
    state = placed(venv, 0.6)
    actions = jnp.broadcast_to(EAST, (BATCH, CHUNK, 2))
    chunk = jax.jit(venv.chunk)
    following, obs, outcome = chunk(state, actions, jax.random.split(key, BATCH))
    seen = obs["images"]["plane"]
    np.testing.assert_array_equal(seen[:, 0], following.data.point)
    final = np.asarray(outcome.final_obs["images"]["plane"])
    np.testing.assert_allclose(final[:, 0] - np.asarray(state.data.point), [[0.5, 0]] * BATCH, 1e-5)
    _, _, unended = chunk(placed(venv, 1.9), actions, jax.random.split(jax.random.key(5), BATCH))
    assert not unended.final_obs["images"]["plane"].any()


def test_the_trace_and_the_controller():
    def timid(state, given):
        return 0.5 * given, given

    env = PointMass(PointMassConfig(horizon=100))
    venv = VectorEnv(env, images=False, trace=True, controller=timid)
    state = placed(venv, 1.9)
    actions = jnp.broadcast_to(EAST, (BATCH, CHUNK, 2))
    reached, _, outcome = jax.jit(venv.chunk)(state, actions)
    np.testing.assert_array_equal(outcome.actions, actions)
    moved = np.asarray(outcome.trace.data.point - state.data.point[:, None])[..., 0]
    np.testing.assert_allclose(moved, [[0.125, 0.25, 0.375, 0.5]] * BATCH, atol=1e-6)
    leaves_equal(jax.tree.map(lambda x: x[:, -1], outcome.trace), reached)


def play(mesh: Mesh | None, block: int):
    """Three chunks of random actions in 24 environments, some of which end on the way."""
    venv = VectorEnv(PointMass(PointMassConfig(horizon=6)), mesh, images=False, block=block)

    def program(key):
        start_key, key = jax.random.split(key)
        state, _ = venv.reset(jax.random.split(start_key, 24))
        seen = []
        for t in range(3):
            reset_key, push_key = jax.random.split(jax.random.fold_in(key, t))
            actions = jax.random.uniform(push_key, (24, CHUNK, 2), minval=-1.0)
            state, obs, outcome = venv.chunk(state, actions, jax.random.split(reset_key, 24))
            seen.append((obs, outcome))
        return state, seen

    return jax.jit(program)(jax.random.key(1))


@pytest.fixture(scope="module")
def plain():
    """What one `jax.vmap` over all environments gives."""
    return play(None, block=24)


@pytest.mark.parametrize(
    ("devices", "replica", "block"),
    [(8, 1, 16), (4, 2, 3), (1, 1, 4)],
    ids=["eight", "two-by-two in blocks", "blocks"],
)
def test_blocks_and_devices_change_nothing(plain, devices, replica, block):
    mesh = make_mesh(MeshConfig(replica=replica), jax.devices()[:devices])
    there = play(mesh, block)
    for (path, leaf), twin in zip(
        jax.tree_util.tree_leaves_with_path(there), jax.tree.leaves(plain), strict=True
    ):
        np.testing.assert_allclose(leaf, twin, atol=1e-6, err_msg=jax.tree_util.keystr(path))
    assert plain[1][1][1].truncated.any() and not plain[1][1][1].truncated.all()
