"""One step: learning, the same on any number of devices, and what padding may not change."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.pretrain.config import DataConfig
from loomax.agents.pretrain.data import Batches, Rows
from loomax.agents.pretrain.documents import load_documents
from loomax.agents.pretrain.learner import Learner, model_of, rows_loss
from loomax.agents.pretrain.presets import CONFIGS
from loomax.models.lm import shapes
from loomax.runtime.mesh import MeshConfig, make_mesh, replicated

SENTENCE = "the red cube is on the green plate. "
# The programs of the debug run, which compile once for all tests. Behind its own four steps its
# learning rate stays where it is.
CONFIG = CONFIGS["lm-debug"]
STAGE = CONFIG.stages[0]


@cache
def on_devices(count, parts=1):
    """A learner and its compiled step, on batches that are computed in so many parts."""
    learner = Learner(CONFIG, make_mesh(MeshConfig(), jax.devices()[:count]))
    state = jax.eval_shape(lambda: learner.draw(key=jax.random.key(0)))
    where = learner.state_shardings(state), replicated(learner.mesh)
    step = partial(learner.step, replace(STAGE, accumulate=parts))
    return learner, jax.jit(step, donate_argnames=("state",), out_shardings=where)


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    """Rows of one sentence, repeated."""
    root = tmp_path_factory.mktemp("repeated")
    for number in range(4):
        (root / f"{number}.txt").write_text(SENTENCE * (20 + number))
    data = DataConfig(path=str(root), held_out=0.0, tokenizer="bytes")

    def make():
        return Batches(load_documents(data), data, length=STAGE.length, rows=STAGE.batch, seed=0)

    return make


def run(devices, batches, steps, parts=1):
    """The state after some steps, and the loss of each."""
    learner, step = on_devices(devices, parts)
    state, losses = jax.jit(learner.draw)(key=jax.random.key(0)), []
    state = jax.device_put(state, learner.state_shardings(state))
    for _ in range(steps):
        state, metrics = step(state, *learner.place(next(batches)))
        losses.append(float(metrics["loss"]))
    return state, losses


def test_the_loss_falls_below_what_letters_alone_tell(batches):
    """The entropy of single bytes is the best that a model without context can reach."""
    counts = np.bincount(np.frombuffer(SENTENCE.encode(), np.uint8))
    share = counts[counts > 0] / counts.sum()
    entropy = -(share * np.log(share)).sum()
    _, losses = run(1, batches(), 100)
    assert losses[0] > np.log(259) - 0.2
    assert np.mean(losses[-5:]) < 0.5 * entropy


def test_eight_devices_do_what_one_does(batches):
    (one, losses), (eight, again) = (run(devices, batches(), 4) for devices in (1, 8))
    np.testing.assert_allclose(losses, again, rtol=1e-5)
    for a, b in zip(*map(jax.tree.leaves, (one.params, eight.params)), strict=True):
        # Adam divides by the gradient's own size, so rounding of small ones shows.
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_parts_of_a_batch_add_up_to_it(batches):
    (one, losses), (four, again) = (run(2, batches(), 3, parts) for parts in (1, 4))
    np.testing.assert_allclose(losses, again, rtol=1e-5)
    for a, b in zip(*map(jax.tree.leaves, (one.params, four.params)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def loss_on(mesh):
    """A jitted (params, tokens, segments, weights) -> sums."""
    return jax.jit(partial(rows_loss, model_of(CONFIG, STAGE), mesh=mesh))


@pytest.fixture(scope="module")
def packed():
    """Parameters, and two rows of 33 tokens: two documents with padding, and padding alone."""
    params = jax.jit(on_devices(1)[0].draw)(key=jax.random.key(1)).params
    tokens = jax.random.randint(jax.random.key(2), (2, 33), 3, 259)
    segments = jnp.array([[1] * 10 + [2] * 12 + [0] * 11, [0] * 33])
    return params, tokens, segments, jnp.ones((2, 33))


def test_padding_is_not_predicted(packed):
    params, tokens, segments, ones = packed
    loss = loss_on(on_devices(1)[0].mesh)
    sums = loss(params, tokens, segments, ones)
    again = loss(params, jnp.where(segments > 0, tokens, 7), segments, ones)
    jax.tree.map(np.testing.assert_array_equal, sums, again)
    assert sums.tokens == 9 + 11


def test_weights_add_up(packed):
    """A token that counts three times adds what it adds alone, thrice."""
    params, tokens, segments, ones = packed
    loss = loss_on(on_devices(1)[0].mesh)
    alone = jnp.zeros_like(ones).at[0, 5].set(1.0)
    whole, part = (loss(params, tokens, segments, weights) for weights in (ones, alone))
    sums = loss(params, tokens, segments, ones + 2 * alone)
    assert part.tokens == 1 and sums.tokens == whole.tokens + 2
    np.testing.assert_allclose(sums.nats, whole.nats + 2 * part.nats, rtol=1e-5)


def test_rows_may_be_split_over_devices(packed):
    """33 tokens over 4 devices; the shards' borders cut both documents."""
    whole, split = (
        loss_on(make_mesh(MeshConfig(fsdp=fsdp, context=context), jax.devices()[: fsdp * context]))
        for fsdp, context in ((1, 1), (2, 4))
    )
    for a, b in zip(whole(*packed), split(*packed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_parameters_and_moments_stay_float32_where_the_model_computes_in_bfloat16():
    config = replace(CONFIG, model=replace(CONFIG.model, dtype="bfloat16"))
    learner = Learner(config, on_devices(1)[0].mesh)
    state = jax.eval_shape(lambda: learner.draw(key=jax.random.key(0)))
    rows = jax.ShapeDtypeStruct((8, 17), jnp.int32)
    weights = jax.ShapeDtypeStruct(rows.shape, jnp.float32)
    after, metrics = jax.eval_shape(partial(learner.step, STAGE), state, rows, rows, weights)
    floats = jax.tree.leaves((after.params, after.opt_state, metrics))
    assert {leaf.dtype.name for leaf in floats} == {"float32", "int32"}
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_stages_turn_at_their_own_speed():
    first, second = CONFIGS["lm-debug"].stages
    thetas = [model_of(CONFIGS["lm-debug"], stage).rope.theta for stage in (first, second)]
    assert thetas == [10_000.0, 40_000.0]


def test_large_parameters_and_moments_are_spread():
    config = CONFIGS["yoco-3b"]
    learner = Learner(config, make_mesh(MeshConfig(), jax.devices()))
    state = jax.eval_shape(lambda: learner.draw(key=jax.random.key(0)))
    where = learner.state_shardings(state)
    held = sum(
        leaf.dtype.itemsize * np.prod(sharding.shard_shape(leaf.shape))
        for leaf, sharding in zip(*map(jax.tree.leaves, (state, where)), strict=True)
    )
    whole = 3 * sum(
        leaf.dtype.itemsize * leaf.size for leaf in jax.tree.leaves(shapes(config.model))
    )
    assert whole / 8 <= held < 1.01 * whole / 8


def test_rows_are_spread_over_the_devices(batches):
    learner, _ = on_devices(8)
    rows = next(batches())
    tokens, *_ = learner.place(Rows(*rows))
    assert tokens.shape == (8, 17)
    assert sorted(int(shard.index[0].start) for shard in tokens.addressable_shards) == list(
        range(8)
    )
