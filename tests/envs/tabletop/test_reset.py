"""How episodes start: layouts, colours, instructions, images."""

from collections import Counter

import jax
import numpy as np
import pytest

from loomax.envs.control.kinematics import forward
from loomax.envs.scene.table import CUBE_HALF
from loomax.envs.tabletop.config import CUBE_COLOURS, DISC_COLOURS, TabletopConfig
from loomax.envs.tabletop.env import RGBA, START, START_SPREAD, Tabletop
from loomax.envs.tabletop.world import APART, HIGH, LOW, cube_poses, scatter

COUNT = 256


@pytest.fixture(scope="module")
def env() -> Tabletop:
    return Tabletop(TabletopConfig(task="pick-place", cubes=3, pool=64))


@pytest.fixture(scope="module")
def fresh(env):
    reset = jax.jit(jax.vmap(lambda key: env.reset(key=key)))
    return reset(jax.random.split(jax.random.key(0), COUNT))


@pytest.fixture(scope="module")
def poses(fresh) -> np.ndarray:
    """Cube poses, [COUNT, 3, 7]."""
    return np.stack([cube_poses(qpos, 3) for qpos in fresh.data.physics.qpos])


def test_evaluation_starts_from_other_poses(env):
    apart = env.held_out()
    for training, held_out in ((env._places, apart._places), (env._joints, apart._joints)):
        assert training.shape == held_out.shape
        assert not set(map(tuple, training)) & set(map(tuple, held_out))
    key = jax.random.key(4)
    one, other = (e.reset(key=jax.random.clone(key)).data for e in (env, apart))
    np.testing.assert_array_equal(one.physics.qpos[9:], other.physics.qpos[9:])
    assert tuple(np.asarray(other.control.position)) in set(map(tuple, apart._places))
    # The world itself is left as it was.
    assert tuple(np.asarray(one.control.position)) in set(map(tuple, env._places))


def test_the_arm_starts_where_its_target_is(fresh):
    tcp = forward(fresh.data.physics.qpos[:, :7]).tcp
    np.testing.assert_allclose(tcp, fresh.data.control.position, atol=2e-5)
    offset = np.abs(np.asarray(tcp) - START)
    assert (offset <= np.array(START_SPREAD) + 1e-4).all()
    np.testing.assert_array_equal(fresh.data.control.joints, fresh.data.physics.qpos[:, :7])
    assert not fresh.data.physics.qvel.any()
    assert (fresh.data.control.grip == -1).all()


def test_cubes_and_discs_lie_apart_on_the_table(fresh, poses):
    np.testing.assert_allclose(poses[:, :, 2], CUBE_HALF)
    layout = np.concatenate([poses[:, :, :2], fresh.data.discs], axis=1)
    assert (layout >= LOW).all() and (layout <= HIGH).all()
    gaps = np.linalg.norm(layout[:, :, None] - layout[:, None], axis=-1)
    gaps[:, np.eye(5, dtype=bool)] = np.inf
    assert gaps.min() >= APART


def test_places_are_even_over_the_table():
    """Things come apart, and yet every fifth of the table gets its share of them."""
    keys = jax.random.split(jax.random.key(1), 1000)
    layout = np.asarray(jax.jit(jax.vmap(lambda key: scatter(3, key=key)))(keys))
    gaps = np.linalg.norm(layout[:, [0, 0, 1]] - layout[:, [1, 2, 2]], axis=-1)
    assert gaps.min() >= APART
    shares = np.histogram(layout[..., 1], 5, (LOW[1], HIGH[1]))[0] / 3000
    np.testing.assert_allclose(shares, 0.2, atol=0.08)


def test_cubes_are_turned_by_half_a_radian_at_most(poses):
    yaw = 2 * np.arctan2(poses[..., 6], poses[..., 3])
    assert 0.45 < np.abs(yaw).max() <= 0.5 + 1e-5
    np.testing.assert_allclose(np.linalg.norm(poses[..., 3:], axis=-1), 1.0, atol=1e-6)


def test_colours_are_drawn_without_replacement(fresh):
    for colours, names in (
        (fresh.data.cube_colours, CUBE_COLOURS),
        (fresh.data.disc_colours, DISC_COLOURS),
    ):
        colours = np.sort(np.asarray(colours), axis=1)
        assert (np.diff(colours, axis=1) > 0).all()
        assert set(colours.ravel()) == set(range(len(names)))


def test_named_slots_and_colours_are_even(fresh):
    """Each count is within four standard deviations of a uniform draw."""
    for values, size in ((fresh.data.target, 3), (fresh.data.goal, 2), (named(fresh), 4)):
        counts = Counter(np.asarray(values).tolist())
        share = COUNT / size
        assert set(counts) == set(range(size))
        assert max(abs(n - share) for n in counts.values()) < 4 * np.sqrt(share)


def named(states) -> np.ndarray:
    """Colour index of the named cube."""
    rows = np.arange(COUNT)
    return np.asarray(states.data.cube_colours)[rows, np.asarray(states.data.target)]


def test_the_instruction_names_the_target(env, fresh):
    discs = np.asarray(fresh.data.disc_colours)
    for i in range(COUNT):
        sentence = env.instructions[int(fresh.obs["instruction"][i])]
        disc = DISC_COLOURS[discs[i, int(fresh.data.goal[i])]]
        assert sentence == f"put the {CUBE_COLOURS[named(fresh)[i]]} cube on the {disc} disc"


def test_observations_start_in_range(env, fresh):
    assert fresh.obs["proprio"].shape == (COUNT, env.proprio_size)
    assert fresh.obs["privileged"].shape == (COUNT, env.privileged_size)
    assert np.abs(fresh.obs["proprio"]).max() < 2.0
    assert np.isfinite(fresh.obs["privileged"]).all()
    assert not fresh.done.any() and not fresh.reward.any() and not fresh.info["steps"].any()


def test_the_same_key_gives_the_same_episode(env):
    reset = jax.jit(lambda key: env.reset(key=key))
    first, second = (reset(jax.random.key(5)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(first), jax.tree.leaves(second))
    other = reset(jax.random.key(6))
    assert np.abs(other.data.physics.qpos - first.data.physics.qpos).max() > 0.01


def test_relabelling_changes_only_the_instruction(env, fresh):
    key = jax.random.key(3)
    relabelled = jax.vmap(lambda s, k: env.relabel(s, key=k))(fresh, jax.random.split(key, COUNT))
    changed = np.asarray(relabelled.obs["instruction"] != fresh.obs["instruction"])
    assert 0.6 < changed.mean() < 0.99
    np.testing.assert_array_equal(relabelled.data.physics.qpos, fresh.data.physics.qpos)
    np.testing.assert_allclose(relabelled.obs["proprio"], fresh.obs["proprio"], atol=1e-5)


def hue(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Colour of the pixel at a position in [-1, 1]^2, as shares of its brightness."""
    size = image.shape[0]
    column, row = np.clip(((np.asarray(xy) + 1) / 2 * size).astype(int), 0, size - 1)
    pixel = image[row, column].astype(float)
    return pixel / pixel.sum()


def test_what_is_named_is_drawn_in_its_colour(env, fresh):
    """At the projected place of the named cube, the picture has the named colour."""
    few = jax.tree.map(lambda x: x[:24], fresh)
    images = jax.jit(jax.vmap(env.render))(few)["scene"]
    where = jax.jit(jax.vmap(env.pointing))(few)["scene"]
    assert images.shape == (24, 64, 64, 3) and images.dtype == np.uint8
    right = []
    for i in range(24):
        sentence = env.instructions[int(few.obs["instruction"][i])].split()
        for k, name in enumerate((sentence[2], sentence[6])):
            if not where.seen[i, k]:
                continue
            names = CUBE_COLOURS if k == 0 else DISC_COLOURS
            seen = hue(np.asarray(images[i]), where.xy[i, k])
            shares = {n: np.array(RGBA[n][:3]) / sum(RGBA[n][:3]) for n in names}
            nearest = min(names, key=lambda n: np.abs(seen - shares[n]).sum())
            right.append(nearest == name)
    # The arm hides a few of them.
    assert len(right) > 30 and np.mean(right) > 0.85
