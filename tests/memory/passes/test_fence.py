"""The pass changes no result, and makes plain `jax.checkpoint` hold on CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.jaxlib_ext import fence as native
from loomax.memory.passes.fence import fence

needs_native = pytest.mark.skipif(not native.available(), reason="no native fence")
WIDTH, LAYERS = 16, 6


def block(p, x):
    scores = jnp.einsum("bqd,bkd->bqk", jnp.sin(x) @ p["q"], x)
    x = x + jax.nn.softmax(scores) @ x
    return x + jax.nn.gelu(x @ p["up"]) @ p["down"]


def unrolled(params, x):
    for i, p in enumerate(params):
        with jax.named_scope(f"layer_{i}"):
            x = jax.checkpoint(block)(p, x)
    return x


def two_in_a_loop(params, x):
    pairs = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    pairs = jax.tree.map(lambda leaf: leaf.reshape(-1, 2, *leaf.shape[1:]), pairs)

    def body(x, pair):
        first, second = (jax.tree.map(lambda leaf, i=i: leaf[i], pair) for i in range(2))
        return unrolled([first, second], x), None

    return jax.lax.scan(body, x, pairs)[0]


@pytest.fixture
def inputs(key):
    shapes = {"q": (WIDTH, WIDTH), "up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH)}
    keys = jax.random.split(key, (LAYERS, len(shapes)))
    draw = jax.nn.initializers.lecun_normal()
    params = [{n: draw(k, s) for k, (n, s) in zip(ks, shapes.items(), strict=True)} for ks in keys]
    return params, jax.random.normal(jax.random.key(1), (2, 64, WIDTH))


def lower(apply, inputs, **options):
    def step(params, x):
        value, slopes = jax.value_and_grad(lambda p: jnp.mean(apply(p, x) ** 2))(params)
        return value, jax.tree.map(lambda p, g: p - 0.1 * g, params, slopes)

    return jax.jit(step).trace(*inputs).lower(**options)


def temp_bytes(compiled):
    return compiled.memory_analysis().temp_size_in_bytes


def fences(lowered):
    return lowered.as_text().count(f"@{native.TARGET}(")


@needs_native
@pytest.mark.parametrize(
    ("apply", "count", "smaller"), [(unrolled, LAYERS, 2), (two_in_a_loop, 2, 1.2)]
)
def test_fewer_bytes_and_the_same_results(apply, count, smaller, inputs):
    lowered = lower(apply, inputs)
    # The executable that JAX keeps of the unedited program must not be taken for the other.
    plain = lowered.compile()
    edited = fence(lowered, "checkpoint")
    fenced = edited.compile()
    assert (fences(lowered), fences(edited)) == (0, count)
    # From JAX 0.11 on `jax.checkpoint` holds on CPU by itself: a fence only must not cost much.
    smaller = smaller if jax.__version_info__ < (0, 11) else 0.9
    assert temp_bytes(fenced) * smaller < temp_bytes(plain)
    for ours, theirs in zip(
        *(jax.tree.leaves(run(*inputs)) for run in (fenced, plain)), strict=True
    ):
        # Other fusions round sums of thousands in another order.
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-5 * np.abs(theirs).max())


@needs_native
@pytest.mark.parametrize(
    ("blocks", "count"),
    [
        ("layer_3", 1),
        ("layer_[0-3]", 4),
        (["layer_1", "layer_?"], LAYERS),
        ("transpose(jvp(layer_2))/*/rematted_computation", 1),
        ("*", LAYERS),
    ],
)
def test_names_choose_blocks(blocks, count, inputs):
    once = fence(lower(unrolled, inputs), blocks)
    assert fences(once) == count
    assert fences(fence(once, blocks)) == count


@needs_native
def test_a_large_parameter_that_holds_back_little_is_no_operand_to_copy():
    def apply(p, x):
        return jax.checkpoint(lambda p, x: jnp.sin(jnp.sin(x @ p)))(p, x)

    inputs = jnp.ones((512, 4)), jnp.ones((2, 512))
    edited = fence(lower(apply, inputs), "*")
    # The two sines are 16 values of 4 bytes; the input has 2 x 512 values, the parameter more.
    assert fences(edited) == 0


@needs_native
def test_a_barrier_of_the_program_is_fenced_whole():
    def step(x, y):
        x, y = jax.lax.optimization_barrier((x, y))
        return jnp.sin(x) + y

    x = jnp.arange(3.0)
    edited = fence(jax.jit(step).lower(x, x), "optimization_barrier")
    assert fences(edited) == 1
    np.testing.assert_allclose(edited.compile()(x, x), np.sin([0, 1, 2]) + [0, 1, 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ("layer_9", r"'layer_9' matches nothing: did you mean .*layer_5"),
        ("layer", r"'layer' matches nothing: did you mean layer_"),
        ("decoder", r"'decoder' matches nothing: the blocks are jit\(step\)/transpose.*layer_5"),
        ([], "blocks is empty"),
    ],
)
def test_wrong_names_are_refused(blocks, message, inputs):
    with pytest.raises(ValueError, match=message):
        fence(lower(unrolled, inputs), blocks)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_other_platforms_are_refused(platform, inputs):
    with pytest.raises(ValueError, match=f"is for {platform}, .*compile it as it is"):
        fence(lower(unrolled, inputs, lowering_platforms=(platform,)), "*")


def test_without_recomputation_it_is_refused(inputs):
    with pytest.raises(ValueError, match=r"nothing .* recomputed .*prevent_cse=True"):
        fence(jax.jit(jnp.sin).lower(1.0), "*")


def test_several_devices_are_refused(inputs):
    params, x = inputs
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.P("data")))
    with pytest.raises(ValueError, match=r"for 2 devices.*schedule\.remat"):
        fence(lower(unrolled, (params, x)), "*")


def test_without_the_native_part_it_is_refused(inputs, monkeypatch):
    monkeypatch.setattr(native, "available", lambda: False)
    with pytest.raises(RuntimeError, match=r"loomax\.jaxlib_ext\.build"):
        fence(lower(unrolled, inputs), "*")
