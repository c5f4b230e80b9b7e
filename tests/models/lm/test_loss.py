"""Cross-entropy in blocks of tokens against all scores at once."""

import jax
import jax.numpy as jnp
import numpy as np

from loomax.models.lm import create, hidden_states, logits
from loomax.models.lm.loss import cross_entropy, next_token_loss
from loomax.models.lm.presets import yoco_debug

CONFIG = yoco_debug()
TOKENS = jax.random.randint(jax.random.key(1), (2, 11), 0, 37)


def reference(scores, targets, counted):
    """Sum of -log softmax in float64."""
    scores = np.asarray(scores, np.float64)
    scores -= scores.max(-1, keepdims=True)
    log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    nats = -np.take_along_axis(log_p, np.asarray(targets)[..., None], -1)[..., 0]
    hits = scores.argmax(-1) == targets
    return (nats * counted).sum(), (hits * counted).sum(), counted.sum()


def test_blocks_give_the_sums_of_all_scores():
    params = create(CONFIG, key=jax.random.key(0))
    counted = np.random.default_rng(0).uniform(size=(2, 11)) < 0.7
    want = reference(logits(CONFIG, params, TOKENS), np.roll(TOKENS, -1, 1), counted)
    hidden = hidden_states(CONFIG, params, TOKENS)
    for block in (3, 4, 64):
        got = cross_entropy(
            CONFIG, params, hidden, jnp.roll(TOKENS, -1, 1), jnp.array(counted), block=block
        )
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_gradients_of_blocks_are_those_of_all_scores():
    params = create(CONFIG, key=jax.random.key(0))

    def whole(params):
        log_p = jax.nn.log_softmax(logits(CONFIG, params, TOKENS[:, :-1]))
        return -jnp.take_along_axis(log_p, TOKENS[:, 1:, None], -1).sum()

    blocks = jax.jit(jax.grad(lambda p: next_token_loss(CONFIG, p, TOKENS).nats))(params)
    everything = jax.jit(jax.grad(whole))(params)
    for got, want in zip(*map(jax.tree.leaves, (blocks, everything)), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)


def test_the_first_token_of_a_document_is_no_target():
    params = create(CONFIG, key=jax.random.key(0))
    segments = jnp.array([[0] * 4 + [1] * 7, [0] * 11])
    assert next_token_loss(CONFIG, params, TOKENS, segments).tokens == 3 + 6 + 10
    counted = jnp.zeros((2, 11), bool).at[0, 4].set(True)
    nothing = next_token_loss(CONFIG, params, TOKENS, segments, counted)
    assert nothing.tokens == 0 and nothing.nats == 0


def test_no_array_has_the_scores_of_all_tokens():
    """The compiled gradient's buffers stay far below one [B, T, V] array."""
    batch, length, vocab = 1, 2048, 4096
    params = create(CONFIG, key=jax.random.key(0))
    params["head"] = jnp.zeros((16, vocab))
    hidden = jax.ShapeDtypeStruct((batch, length, 16), jnp.float32)
    targets = jax.ShapeDtypeStruct((batch, length), jnp.int32)

    def loss(head, hidden, targets):
        return cross_entropy(
            CONFIG, {"head": head}, hidden, targets, jnp.ones((batch, length), bool), block=128
        ).nats

    compiled = jax.jit(jax.grad(loss)).lower(params["head"], hidden, targets).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < length * vocab * 4 / 4
