"""A step in other forms gives the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.memory.forms.form import Form

ROWS, WIDTH, LAYERS = 4, 6, 3


def layer(p, x):
    return x + jnp.tanh(x @ p["w"]) * p["scale"]


@pytest.fixture(scope="module")
def data():
    keys = jax.random.split(jax.random.key(0), LAYERS + 1)
    params = [
        {"w": jax.random.normal(key, (WIDTH, WIDTH)) / 2, "scale": jnp.ones(WIDTH)}
        for key in keys[1:]
    ]
    return params, jax.random.normal(keys[0], (ROWS, WIDTH))


def stacked(params):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)


def step(params, x, form):
    block = form.block(layer)

    def loss(params, x):
        return jnp.mean(form.run_layers(block, params, x) ** 2)

    return jax.jit(form.value_and_grad(loss))(params, x)


@pytest.mark.parametrize("layers", ["list", "scan", None])
@pytest.mark.parametrize("given", ["list", "stacked"])
@pytest.mark.parametrize(("remat", "microbatches"), [("none", 1), ("full", 2), ("keep:1", 4)])
def test_forms_agree(data, layers, given, remat, microbatches):
    params, x = data
    want_loss, want = step(params, x, Form())
    params, want = (params, want) if given == "list" else (stacked(params), stacked(want))
    loss, slopes = step(params, x, Form(remat, layers, microbatches))
    np.testing.assert_allclose(loss, want_loss, rtol=1e-6)
    assert jax.tree.structure(slopes) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(slopes), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_layers_run_as_asked(data):
    params, x = data

    def loops(form, params):
        text = str(jax.make_jaxpr(lambda p: form.run_layers(layer, p, x))(params))
        return text.count("scan[")

    assert loops(Form(), params) == 0
    assert loops(Form(), stacked(params)) == 1
    assert loops(Form(layers="scan"), params) == 1
    assert loops(Form(layers="list"), stacked(params)) == 0


def test_each_part_takes_rows_from_everywhere():
    """A batch whose halves lie on two devices has rows of both in every part."""
    seen = []

    def loss(params, batch):
        seen.append(batch.shape)
        return params * jnp.mean(batch)

    batch = jnp.arange(8.0)
    value, slope = Form(microbatches=2).value_and_grad(loss)(2.0, batch)
    assert set(seen) == {(4,)}
    assert float(slope) == pytest.approx(3.5)
    assert float(value) == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"remat": "some"}, "unknown policy 'some'"),
        ({"layers": "tree"}, "layers is 'tree': choose from list, scan"),
        ({"microbatches": 0}, "microbatches is 0: give at least 1"),
    ],
)
def test_what_is_no_form_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Form(**arguments)


def test_microbatches_have_to_divide_the_batch(data):
    params, x = data
    with pytest.raises(ValueError, match="3 microbatches do not divide a batch of 4"):
        step(params, x, Form(microbatches=3))


def test_a_form_reads_as_words():
    assert str(Form()) == "remat none"
    assert str(Form("full", "scan", 2)) == "remat full, scan, 2 microbatches"
    assert str(Form("full", contexts="kept")) == "remat full, contexts kept"
