"""Snapshots of recurrent states and copies of pages, against NumPy's indexing."""

import jax.numpy as jnp
import numpy as np

from loomax.agents.engine.store import Store, copied, restored, saved

STATES = {"a": np.arange(12.0).reshape(3, 4), "b": np.arange(3.0)}
SNAPSHOTS = {"a": -np.ones((5, 4)), "b": -np.ones(5)}
PAGES = np.arange(8.0).reshape(4, 2)


def store(snapshots=True):
    arrays = {name: jnp.asarray(x) for name, x in STATES.items()}
    kept = {name: jnp.asarray(x) for name, x in SNAPSHOTS.items()} if snapshots else ()
    return Store(arrays, jnp.asarray(PAGES), kept)


def moved(source, rows, target, places):
    """Row by row; a pair with a place out of range is left out."""
    target = {name: x.copy() for name, x in target.items()}
    for row, place in zip(rows, places, strict=True):
        for name, x in target.items():
            if place < len(x):
                x[place] = source[name][row]
    return target


def same(found, expected):
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x)


def test_states_go_to_snapshots_and_back():
    rows, places = [2, 0, 1], [4, 1, 5]  # 5 is out of range: not saved
    after = saved(store(), jnp.array(rows), jnp.array(places))
    kept = moved(STATES, rows, SNAPSHOTS, places)
    same(after.snapshots, kept)
    same(after.states, STATES)
    back = restored(after, jnp.array([4, 1]), jnp.array([0, 3]))
    same(back.states, moved(kept, [4, 1], STATES, [0, 3]))
    same(back.snapshots, kept)
    np.testing.assert_array_equal(back.shared, PAGES)


def test_pages_are_copied():
    after = copied(store(), jnp.array([3, 0]), jnp.array([1, 4]))
    expected = PAGES.copy()
    expected[1] = PAGES[3]
    np.testing.assert_array_equal(after.shared, expected)
    same(after.states, STATES)


def test_a_model_without_recurrent_states_has_pages_in_every_layer():
    bare = store(snapshots=False)
    assert saved(bare, jnp.array([0]), jnp.array([1])) is bare
    assert restored(bare, jnp.array([0]), jnp.array([1])) is bare
    after = copied(bare, jnp.array([2]), jnp.array([0]))
    same(after.states, moved(STATES, [2], STATES, [0]))
    np.testing.assert_array_equal(after.shared[0], PAGES[2])
