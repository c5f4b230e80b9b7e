"""Small layers, rotary positions, attention and the vision stems against NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loomax.models.attention import attend, block_mask, positions_of
from loomax.models.initialise import FLAT_LIMIT, initialise, normal
from loomax.models.layers import MLP, Dense, layer_norm, rms_normalise, sine_cosine
from loomax.models.rope import rotate
from loomax.models.vision.keypoint import KeypointShape, KeypointStem, cell_centres, cut
from loomax.models.vision.siglip import Siglip, SiglipShape, embed_patches


def test_sine_cosine_has_the_periods_of_pi0():
    t = np.array([0.0, 0.3, 1.0])
    ours = sine_cosine(jnp.asarray(t, jnp.float32), 6)
    periods = [4e-3, math.sqrt(4e-3 * 4.0), 4.0]
    angles = 2 * np.pi * t[:, None] / np.array(periods)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    np.testing.assert_allclose(ours, expected, atol=2e-4)
    with pytest.raises(ValueError, match="even width, not 5"):
        sine_cosine(jnp.zeros(1), 5)


def test_norms(key):
    x = np.asarray(jax.random.normal(key, (2, 5)), np.float64) * 3 + 1
    rms = x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.5)
    np.testing.assert_allclose(rms_normalise(jnp.asarray(x, jnp.float32), 0.5), rms, rtol=1e-5)
    scale, bias = np.arange(5.0), np.ones(5)
    centred = x - x.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True)) * scale + bias
    ours = layer_norm(*(jnp.asarray(a, jnp.float32) for a in (x, scale, bias)))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_rotation_turns_pairs_by_position(key):
    x = np.asarray(jax.random.normal(key, (1, 3, 1, 4)), np.float64)
    ours = rotate(jnp.asarray(x, jnp.float32), jnp.array([[0, 5, 7]]))
    for s, position in enumerate((0, 5, 7)):
        for i in range(2):
            angle = position * 10_000.0 ** (-2 * i / 4)
            a, b = x[0, s, 0, i], x[0, s, 0, i + 2]
            turned = complex(a, b) * complex(math.cos(angle), math.sin(angle))
            np.testing.assert_allclose(ours[0, s, 0, i], turned.real, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(ours[0, s, 0, i + 2], turned.imag, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_equals_loops(kv_heads, key):
    heads, queries, width, keys_count = 4, 3, 2, 5
    q_key, k_key, v_key, m_key = jax.random.split(key, 4)
    q = jax.random.normal(q_key, (2, queries, heads, width))
    k = jax.random.normal(k_key, (2, keys_count, kv_heads, width))
    v = jax.random.normal(v_key, (2, keys_count, kv_heads, width))
    mask = jax.random.bernoulli(m_key, 0.6, (2, queries, keys_count)).at[..., 0].set(True)
    ours = np.asarray(attend(q, k, v, mask))
    q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
    for b, s, n in np.ndindex(2, queries, heads):
        group = n // (heads // kv_heads)
        seen = np.flatnonzero(mask[b, s])
        logits = k[b, seen, group] @ q[b, s, n] / math.sqrt(width)
        weights = np.exp(logits - logits.max())
        expected = weights @ v[b, seen, group] / weights.sum()
        np.testing.assert_allclose(ours[b, s, n], expected, rtol=1e-4, atol=1e-5)


def test_attention_refuses_uneven_groups():
    x = jnp.zeros((1, 2, 3, 4))
    with pytest.raises(ValueError, match="2 key-value heads do not divide 3"):
        attend(x, x[:, :, :2], x[:, :, :2], jnp.ones((1, 2, 2), bool))


def test_block_mask_by_hand():
    valid = jnp.array([[True, False, True, True]])
    mask = block_mask(valid, jnp.array([0, 0, 1, 2]))
    assert mask[0].astype(int).tolist() == [
        [1, 0, 0, 0],
        [1, 0, 0, 0],
        [1, 0, 1, 0],
        [1, 0, 1, 1],
    ]
    assert positions_of(valid).tolist() == [[0, 0, 1, 2]]


def test_initial_scale_and_determinism():
    def build(rngs):
        return MLP((64, 128, 32), rngs=rngs, last_std=0.02)

    _, params = initialise(build, key=jax.random.key(1))
    _, again = initialise(build, key=jax.random.key(1))
    _, other = initialise(build, key=jax.random.key(2))
    first, last = params["layers"][0]["kernel"], params["layers"][1]["kernel"]
    np.testing.assert_allclose(first[...].std(), 64**-0.5, rtol=0.05)
    np.testing.assert_allclose(last[...].std(), 0.02, rtol=0.05)
    np.testing.assert_array_equal(first[...], again["layers"][0]["kernel"][...])
    assert not np.array_equal(first[...], other["layers"][0]["kernel"][...])


def test_large_models_draw_each_parameter(monkeypatch):
    """Above the limit the numbers come from `nnx.Rngs`, parameter by parameter."""
    assert FLAT_LIMIT > 1 << 20
    monkeypatch.setattr("loomax.models.initialise.FLAT_LIMIT", 10)
    _, params = initialise(lambda rngs: Dense(30, 40, rngs=rngs), key=jax.random.key(1))
    expected = normal(nnx.Rngs(jax.random.key(1)), (30, 40), 30**-0.5)
    np.testing.assert_allclose(params["kernel"][...], expected, rtol=1e-6)


def test_patches_keep_their_pixels():
    image = jnp.arange(2 * 4 * 4 * 3, dtype=jnp.float32).reshape(2, 4, 4, 3)
    patches = cut(image, 2)
    assert patches.shape == (2, 4, 12)
    np.testing.assert_array_equal(patches[1, 2], np.asarray(image)[1, 2:4, 0:2].ravel())
    np.testing.assert_allclose(
        cell_centres(2), [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]
    )


def test_key_points_find_a_bright_patch():
    """With a query that loves brightness the expected position is the bright patch's."""
    shape = KeypointShape(size=16, stride=4, features=3, learned=1, asked=0, width=2, text=1)
    stem = nnx.merge(*initialise(lambda r: KeypointStem(shape, rngs=r), key=jax.random.key(0)))
    for parameter in (stem.place, stem.bias, stem.names):
        parameter[...] = jnp.zeros_like(parameter[...])
    stem.patch.kernel[...] = jnp.ones((48, 3)) / 48
    stem.mix.kernel[...] = jnp.eye(3)
    stem.queries[...] = jnp.full((3, 1), 100.0)
    stem.out.kernel[...] = jnp.zeros((5, 2)).at[:2].set(jnp.eye(2))
    image = -jnp.ones((1, 16, 16, 3))
    image = image.at[0, 4:8, 8:12].set(1.0)
    token = stem(image, jnp.zeros((1, 1)))
    np.testing.assert_allclose(token[0, 0], [0.25, -0.25], atol=1e-3)


def test_stem_sizes_are_checked():
    with pytest.raises(ValueError, match="image side 30 is no multiple of the stride 4"):
        KeypointShape(size=30, stride=4, features=3, learned=1, asked=0, width=2, text=1)
    with pytest.raises(ValueError, match="no multiple of the patch 14"):
        SiglipShape(size=64, patch=14, width=8, depth=1, mlp=8, heads=2, out=4)
    with pytest.raises(ValueError, match="3 heads do not divide the width 8"):
        SiglipShape(size=28, patch=14, width=8, depth=1, mlp=8, heads=3, out=4)


def test_siglip_patches_equal_a_convolution(key):
    shape = SiglipShape(size=8, patch=4, width=6, depth=1, mlp=8, heads=2, out=4)
    tower = nnx.merge(*initialise(lambda r: Siglip(shape, rngs=r), key=key))
    image = jax.random.normal(jax.random.key(3), (2, 8, 8, 3))
    expected = jax.lax.conv_general_dilated(
        image,
        tower.embedding.kernel[...],
        (4, 4),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    ).reshape(2, 4, 6)
    ours = embed_patches(tower, image) - tower.pos_embedding[...]
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    np.testing.assert_allclose(tower(image), tower(image, remat="full"), atol=1e-6)
    assert tower(image).shape == (2, 4, 4)
