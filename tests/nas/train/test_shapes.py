"""Drawn solids: what a seed gives, what is kept on disk, and how scenes are laid out."""

import numpy as np
import pytest

from loomax.nas.space.count import count
from loomax.nas.space.digits import digits_space, shapes_space
from loomax.nas.space.draw import largest
from loomax.nas.train.data import shapes
from loomax.nas.train.data.scatter import CLASSES, KINDS, SIZES, scatter


@pytest.fixture(scope="module")
def drawn():
    return shapes.draw_shapes(3, 300)


def test_images_are_a_function_of_the_seed(drawn):
    assert drawn.images.shape == (300, 16, 16, 3) and drawn.images.dtype == np.uint8
    # More than a block, and the part of a block that fewer images need.
    few = shapes.draw_shapes(3, 5)
    np.testing.assert_array_equal(few.images, drawn.images[:5])
    np.testing.assert_array_equal(few.labels, drawn.labels[:5])
    assert len(np.unique(drawn.images.reshape(300, -1), axis=0)) == 300
    counts = np.bincount(drawn.labels)
    assert len(counts) == CLASSES == 8 and counts.min() > 300 / 8 / 2


def test_a_class_is_a_kind_and_a_size():
    """One of the four solids is there, and its size is beyond those of the other class."""
    for kind in range(len(KINDS)):
        scenes = scatter(0, 0, 400)
        chosen = scenes.label % len(KINDS) == kind
        slot = scenes.rgba[chosen, 1 : 1 + len(KINDS), 3]
        np.testing.assert_array_equal(slot, np.eye(len(KINDS))[np.full(chosen.sum(), kind)])
        extent = scenes.size[chosen, 1 + kind, 0]
        large = scenes.label[chosen] >= len(KINDS)
        ratio = extent[large].min() / extent[~large].max()
        assert ratio > SIZES[1][0] / SIZES[0][1] - 1e-6


def test_a_scene_is_turned_as_a_whole():
    scenes = scatter(1, 2, 50)
    for rotation in (scenes.view[:, None], scenes.rotation):
        gram = np.einsum("bgij,bgik->bgjk", rotation, rotation)
        np.testing.assert_allclose(gram, np.broadcast_to(np.eye(3), gram.shape), atol=1e-5)
        np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-5)
    up, eye = scenes.rotation[:, 0, :, 2], scenes.eye
    heights = np.einsum("bi,bi->b", up, eye)
    np.testing.assert_allclose(
        heights, 0.95 + 4 * np.einsum("bi,bi->b", up, scenes.view[..., 2]), atol=1e-5
    )
    # The light's direction is fixed, the floor's is not.
    assert np.ptp(up[:, 2]) > 0.1 and np.ptp(scenes.view[:, 0, 2]) > 1
    assert not np.array_equal(scatter(1, 3, 50).position, scenes.position)


def test_drawn_once(tmp_path, monkeypatch, drawn):
    monkeypatch.setenv("LOOMAX_CACHE", str(tmp_path))
    calls = []

    def draw(seed, size):
        calls.append((seed, size))
        return shapes.Shapes(drawn.images[:size], drawn.labels[:size])

    monkeypatch.setattr(shapes, "draw_shapes", draw)
    load = shapes.load_shapes.__wrapped__
    first, again = load(3, 20), load(3, 20)
    assert calls == [(3, 20)] and first.fingerprint == again.fingerprint
    np.testing.assert_array_equal(again.images, drawn.images[:20])
    (path,) = (tmp_path / "shapes").iterdir()
    path.write_bytes(path.read_bytes()[:500])
    assert load(3, 20).fingerprint == first.fingerprint and len(calls) == 2
    assert load(3, 21).fingerprint != first.fingerprint


def test_networks_for_shapes_cost_what_those_for_digits_do():
    """But for two more channels at the stem, and other classes at the head."""
    ours, digits = shapes_space(10), digits_space(10)
    stem = 2 * 9 * 8 * 8 * 8
    assert count(ours, largest(ours)).macs == count(digits, largest(digits)).macs + stem
