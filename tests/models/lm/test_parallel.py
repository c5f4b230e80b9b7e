"""Rows spread over devices against the same rows on one device."""

import re
from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from loomax.models.lm import DeltaConfig, create, forward, loss, parallel, shapes
from loomax.models.lm.presets import transformer_debug, yoco_debug
from loomax.runtime.mesh import MeshConfig, make_mesh

LENGTH, BATCH = 48, 2
TOKENS = jax.random.randint(jax.random.key(1), (BATCH, LENGTH), 0, 37)
# Shards of 12 tokens: documents end inside them and exactly at their borders, one lasts three
# shards, some are shorter than a chunk and one is a single token.
DOCUMENTS = jnp.array(
    [
        np.repeat([0, 1, 2, 3, 4], (5, 7, 12, 1, 23)),
        np.repeat([3, 4, 5], (2, 34, 12)),
    ]
)
KINDS = {
    "gated_retention": yoco_debug("gated_retention"),
    "sliding_window": yoco_debug("sliding_window"),
    "gated_deltanet": yoco_debug("gated_deltanet"),
    "wide_values": replace(yoco_debug("gated_deltanet"), delta=DeltaConfig(2.0, True, True)),
    "looped": replace(yoco_debug(), loops=2, kv_residual=True, cross_rope=False),
    "attention": transformer_debug("attention"),
    "mla": transformer_debug("mla"),
}


@cache
def params_of(kind):
    params = create(KINDS[kind], key=jax.random.key(3))
    if "kv_share" in params:
        params["kv_share"] = jnp.full_like(params["kv_share"], 0.3)
    return params


# These programs run for milliseconds, and to optimise them takes most of the tests' time.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@cache
def gradient_of(kind, hidden_states):
    """A jitted function of (params, segments): gradient along random states, hidden states."""

    def run(params, segments):
        hidden = hidden_states(KINDS[kind], params, TOKENS, segments)
        along = jax.random.normal(jax.random.key(5), hidden.shape)
        return (hidden * along).sum(), hidden

    return quick_jit(jax.grad(run, has_aux=True))


@cache
def on_mesh(function, fsdp, context):
    """A function of `parallel` that knows the mesh."""
    return partial(function, mesh=make_mesh(MeshConfig(fsdp=fsdp, context=context)))


def assert_same_gradients(got, want):
    """To 1e-4 of the largest entry of each parameter's."""
    paths = jax.tree_util.tree_leaves_with_path(want)
    for (path, true), found in zip(paths, jax.tree.leaves(got), strict=True):
        scale = np.abs(true).max() or 1.0
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(found / scale, true / scale, atol=1e-4, err_msg=name)


def assert_same(got, want):
    np.testing.assert_allclose(got[1], want[1], atol=1e-5)
    assert_same_gradients(got[0], want[0])


@pytest.mark.parametrize("kind", KINDS)
def test_packed_documents_over_two_times_four_devices(kind):
    spread = gradient_of(kind, on_mesh(parallel.hidden_states, 2, 4))
    alone, params = gradient_of(kind, forward.hidden_states), params_of(kind)
    assert_same(spread(params, DOCUMENTS), alone(params, DOCUMENTS))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "looped"])
def test_whole_rows_over_eight_devices(kind):
    """No documents are what one document in all rows is."""
    spread = gradient_of(kind, on_mesh(parallel.hidden_states, 1, 8))
    alone, params = gradient_of(kind, forward.hidden_states), params_of(kind)
    assert_same(spread(params, None), alone(params, jnp.zeros_like(DOCUMENTS)))


def test_loss_counts_targets_across_borders():
    """Sums and gradients; where a document begins at a border, that is no target."""
    config, params = KINDS["attention"], params_of("attention")
    counted = jax.random.bernoulli(jax.random.key(6), 0.8, TOKENS.shape)

    def both(next_token_loss):
        def run(params):
            sums = next_token_loss(config, params, TOKENS, DOCUMENTS, counted)
            return sums.nats, sums

        return quick_jit(jax.grad(run, has_aux=True))(params)

    gradient, sums = both(on_mesh(parallel.next_token_loss, 2, 4))
    true_gradient, true_sums = both(loss.next_token_loss)
    np.testing.assert_allclose(sums, true_sums, rtol=1e-5)
    assert_same_gradients(gradient, true_gradient)


@pytest.mark.parametrize("kind", ["gated_retention", "sliding_window"])
def test_loss_of_whole_rows(kind):
    params = params_of(kind)
    spread = quick_jit(partial(on_mesh(parallel.next_token_loss, 2, 4), KINDS[kind]))
    alone = quick_jit(partial(loss.next_token_loss, KINDS[kind]))
    np.testing.assert_allclose(spread(params, TOKENS), alone(params, TOKENS), rtol=1e-5)


def test_one_shard_is_no_split():
    params = params_of("gated_retention")
    mesh = make_mesh(MeshConfig(fsdp=2), jax.devices()[:2])
    for ours, theirs in (
        (parallel.hidden_states, forward.hidden_states),
        (parallel.next_token_loss, loss.next_token_loss),
    ):
        traced = partial(jax.make_jaxpr, static_argnums=0)
        got = traced(partial(ours, mesh=mesh))(KINDS["gated_retention"], params, TOKENS)
        assert str(got) == str(traced(theirs)(KINDS["gated_retention"], params, TOKENS))


def gathers(config):
    """Shapes of what the forward pass gathers: once, and in a loop over layers."""
    mesh = make_mesh(MeshConfig(fsdp=1, context=8))
    run = partial(parallel.hidden_states, config, mesh=mesh)
    once, in_loops = [], []

    def walk(jaxpr, found):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "all_gather":
                found.append(equation.outvars[0].aval.shape)
            inner = in_loops if equation.primitive.name == "scan" else found
            for sub in jaxprs_in_params(equation.params):
                walk(sub, inner)

    walk(jax.make_jaxpr(run)(shapes(config), TOKENS).jaxpr, once)
    return once, in_loops


# Batch, tokens, key-value heads, head width.
KEYS = (BATCH, LENGTH, 2, 8)


@pytest.mark.parametrize("cross_layers", [1, 3])
@pytest.mark.parametrize("mixer", ["gated_retention", "gated_deltanet", "sliding_window"])
def test_a_decoder_decoder_gathers_keys_and_values_once(mixer, cross_layers):
    """However many cross layers; self layers gather states, whose size knows no length."""
    config = replace(KINDS[mixer], cross_layers=cross_layers)
    once, in_loops = gathers(config)
    assert once == [KEYS, KEYS]
    state = (8, BATCH, 2, 8, 8)
    per_layer = {
        "gated_retention": [(8, BATCH, 2), state],
        "gated_deltanet": [state, state],
        "sliding_window": [],
    }
    assert in_loops == per_layer[mixer]


def test_a_transformer_gathers_them_in_every_layer():
    assert gathers(KINDS["attention"]) == ([], [KEYS, KEYS])


def test_the_compiler_adds_no_messages():
    """Keys, values and, in the loop over self layers, the two parts of a state."""
    config, mesh = KINDS["gated_retention"], make_mesh(MeshConfig(fsdp=2, context=4))
    run = quick_jit(partial(parallel.hidden_states, config, mesh=mesh))
    # Tokens come as they lie best.
    where = jax.sharding.NamedSharding(mesh, parallel.TOKENS)
    tokens = jax.ShapeDtypeStruct(TOKENS.shape, jnp.int32, sharding=where)
    program = run.lower(shapes(config), tokens).compile().as_text()
    assert len(re.findall(r" all-gather(?:-start)?\(", program)) == 4
    assert not re.findall(r" (?:all-reduce|all-to-all|collective-permute)(?:-start)?\(", program)


@pytest.mark.parametrize(
    ("kind", "length", "mesh", "words"),
    [
        ("gated_retention", 44, {"context": 8}, "context 8 does not divide rows of 44 .* to 48"),
        ("sliding_window", 40, {"context": 8}, "window is 6, .* shards of 5 .* at least 48 tokens"),
        ("gated_deltanet", 24, {"context": 8}, "conv is 4, .* shards of 3 .* at least 32 tokens"),
        ("attention", 48, {"fsdp": 4, "context": 2}, "4 devices .* do not divide a batch of 2"),
        ("attention", 48, {"context": 4, "tensor": 2}, "mesh.tensor is 2 .* make it 1"),
    ],
)
def test_rows_that_do_not_fit_the_mesh_are_refused(kind, length, mesh, words):
    mesh, config = make_mesh(MeshConfig(**mesh)), KINDS[kind]
    for function in (parallel.hidden_states, parallel.next_token_loss):
        with pytest.raises(ValueError, match=words):
            function(config, {}, TOKENS[:, :1].repeat(length, 1), mesh=mesh)


def test_a_mesh_without_the_axis_is_refused():
    mesh = jax.make_mesh((8,), ("fsdp",))
    with pytest.raises(ValueError, match="axes fsdp has no 'context'"):
        parallel.hidden_states(KINDS["mla"], {}, TOKENS, mesh=mesh)
