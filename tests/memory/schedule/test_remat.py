"""`remat` changes no result and, on CPU, keeps what it promises: few bytes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from loomax.jaxlib_ext import fence
from loomax.memory.schedule import remat as module
from loomax.memory.schedule.remat import remat

needs_native = pytest.mark.skipif(not fence.available(), reason="no native fence")
HEADS = 2
DOTS = jax.checkpoint_policies.dots_with_no_batch_dims_saveable


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def attention_block(p, x):
    q, k, v = (norm(x) @ p[name] for name in "qkv")
    split = (*x.shape[:-1], HEADS, -1)
    scores = jnp.einsum("...qhd,...khd->...hqk", q.reshape(split), k.reshape(split))
    mixed = jnp.einsum("...hqk,...khd->...qhd", jax.nn.softmax(scores), v.reshape(split))
    x = x + mixed.reshape(x.shape) @ p["o"]
    return x + jax.nn.gelu(checkpoint_name(norm(x) @ p["up"], "hidden")) @ p["down"]


def mlp_block(p, x):
    return x + jax.nn.gelu(norm(x) @ p["up"]) @ p["down"]


def stack(key, layers, width):
    shapes = {name: (width, width) for name in "qkvo"}
    shapes |= {"up": (width, 4 * width), "down": (4 * width, width)}
    keys = jax.random.split(key, (layers, len(shapes)))
    draw = jax.nn.initializers.lecun_normal()
    return [{n: draw(k, s) for k, (n, s) in zip(ks, shapes.items(), strict=True)} for ks in keys]


def loss(block, params, x):
    for p in params:
        x = block(p, x)
    return jnp.mean(x**2)


def compiled(block, params, x):
    def step(params, x):
        value, slopes = jax.value_and_grad(partial(loss, block))(params, x)
        return value, jax.tree.map(lambda p, g: p - 0.1 * g, params, slopes)

    return jax.jit(step, donate_argnums=0).lower(params, x).compile()


def check(ours, theirs):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), ours, theirs)


@needs_native
@pytest.mark.parametrize("block", [attention_block, mlp_block])
def test_unrolled_layers_need_less_than_half_of_jax_checkpoint(block, key):
    params, x = stack(key, 6, 16), jnp.ones((2, 64, 16))
    theirs, ours = (compiled(wrap(block), params, x) for wrap in (jax.checkpoint, remat))
    few, many = (c.memory_analysis().temp_size_in_bytes for c in (ours, theirs))
    # From JAX 0.11 on `jax.checkpoint` holds on CPU by itself: a fence only must not cost much.
    assert (2 if jax.__version_info__ < (0, 11) else 0.9) * few < many
    copies = jax.tree.map(jnp.copy, params)
    check(ours(copies, x), theirs(params, x))


@pytest.mark.parametrize(
    ("policy", "native"),
    [
        pytest.param(None, True, marks=needs_native),
        pytest.param(DOTS, True, marks=needs_native),
        (jax.checkpoint_policies.save_only_these_names("hidden"), False),
    ],
)
def test_gradients_are_those_without_remat(policy, native, key, monkeypatch):
    if not native:
        monkeypatch.setattr(fence, "available", lambda: False)
    params, x = stack(key, 2, 8), jax.random.normal(jax.random.key(1), (2, 5, 8))
    found = jax.jit(jax.value_and_grad(partial(loss, remat(attention_block, policy)), (0, 1)))
    plain = jax.jit(jax.value_and_grad(partial(loss, attention_block), (0, 1)))
    check(found(params, x), plain(params, x))


@needs_native
def test_a_policy_keeps_more(key):
    params, x = stack(key, 4, 16), jnp.ones((2, 64, 16))
    few, more = (
        compiled(remat(mlp_block, p), params, x).memory_analysis().temp_size_in_bytes
        for p in (None, DOTS)
    )
    assert few < more


def dropout(w, x, step, key):
    kept = jax.random.bernoulli(key, 0.5, x.shape)
    return {"x": jnp.tanh(x @ w) * kept * step, "step": step + 1}


@pytest.fixture
def inputs():
    x = jax.random.normal(jax.random.key(2), (4, 3))
    return jax.random.normal(jax.random.key(1), (3, 3)), x, jnp.int32(2)


@pytest.mark.parametrize(
    "mode", ["plain", "vmap", "vmap of grad", "scan", "twice", "hessian", "nested"]
)
def test_transformations_with_keys_and_integers(mode, inputs):
    w, x, step = inputs

    def total(block, w):
        key = jax.random.key(3)
        if mode == "vmap":
            keys = jax.random.split(key, len(x))
            return jax.vmap(block, (None, 0, None, 0))(w, x, step, keys)["x"].sum()
        if mode == "scan":
            keys = jax.random.split(key, 3)
            carry = {"x": x, "step": step}
            body = lambda c, k: (block(w, c["x"], c["step"], k), None)  # noqa: E731
            return jax.lax.scan(body, carry, keys)[0]["x"].sum()
        return block(w, x, step, key)["x"].sum()

    def slopes(block):
        if mode == "nested":
            block = (
                remat(lambda *args, inner=block: inner(*args)) if block is not dropout else block
            )
        if mode == "vmap of grad":
            of_row = lambda w, x, k: block(w, x, step, k)["x"].sum()  # noqa: E731
            keys = jax.random.split(jax.random.key(3), len(x))
            return jax.jit(jax.vmap(jax.grad(of_row), (None, 0, 0)))(w, x, keys)
        slope = jax.grad(partial(total, block))
        if mode == "twice":
            return jax.jit(jax.jacrev(slope))(w)
        if mode == "hessian":
            return jax.jit(jax.jacfwd(slope))(w)
        return jax.jit(slope)(w)

    check(slopes(remat(dropout)), slopes(dropout))


def test_outside_jit_and_without_a_gradient(inputs):
    w, x, step = inputs
    ours = remat(dropout)(w, x, step, key=jax.random.key(3))
    check(ours, dropout(w, x, step, jax.random.key(3)))
    slope = jax.grad(lambda w: remat(dropout)(w, x, step, jax.random.key(3))["x"].sum())
    check(slope(w), jax.grad(lambda w: dropout(w, x, step, jax.random.key(3))["x"].sum())(w))


def test_what_a_block_closes_over_is_differentiated(inputs):
    w, x, _ = inputs

    def total(wrap, w):
        scaled = 2.0 * w
        return wrap(lambda x, n: jnp.tanh(x @ scaled) * n)(x, 3).sum()

    check(*(jax.grad(partial(total, wrap))(w) for wrap in (remat, lambda f: f)))


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_sharded_batches(kind, inputs):
    w, x, _ = inputs
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType[kind],))
    block = lambda w, x: jnp.tanh(jnp.sin(x) @ w)  # noqa: E731
    slope = lambda wrap: jax.grad(lambda w, x: wrap(block)(w, x).sum(), (0, 1))  # noqa: E731
    with jax.set_mesh(mesh):
        shard = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.P("data")))
        whole = jax.device_put(w, jax.sharding.NamedSharding(mesh, jax.P()))
        ours = jax.jit(slope(remat))(whole, shard)
    assert ours[1].sharding.is_equivalent_to(shard.sharding, 2)
    check(jax.device_get(ours), slope(lambda f: f)(w, x))


def test_under_shard_map_with_a_sum_inside(inputs):
    w, x, _ = inputs
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def slope(wrap):
        block = wrap(lambda w, x: jax.lax.psum(jnp.tanh(x @ w), "data"))
        local = lambda w, x: block(w, x).sum()  # noqa: E731
        whole = jax.shard_map(
            local, mesh=mesh, in_specs=(jax.P(), jax.P("data")), out_specs=jax.P()
        )
        return jax.jit(jax.grad(whole))(w, x)

    # The sum over devices and rows is the sum over the batch.
    check(slope(remat), jax.grad(lambda w: jnp.tanh(x @ w).sum())(w))


def test_without_the_native_part_it_says_so_once(inputs, monkeypatch, capsys):
    monkeypatch.setattr(fence, "available", lambda: False)
    module._say_once.cache_clear()
    w, x, _ = inputs
    for _ in range(2):
        jax.jit(jax.grad(lambda w: remat(jnp.matmul)(x, w).sum()))(w)
    (line,) = capsys.readouterr().err.splitlines()
    assert "no native fence" in line and "loomax.jaxlib_ext.build" in line


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
def test_elsewhere_it_is_jax_checkpoint(platform, inputs, monkeypatch):
    w, x, _ = inputs
    monkeypatch.setattr(module, "target_platform", lambda: platform)
    made = [jax.make_jaxpr(wrap(jnp.matmul))(x, w) for wrap in (remat, jax.checkpoint)]
    assert str(made[0]) == str(made[1])


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"policy is 'dots'.*jax.checkpoint_policies"):
        remat(jnp.sin, "dots")
    with pytest.raises(ValueError, match=r"remat of sin: argument .* is 'a', .*functools.partial"):
        remat(jnp.sin)("a")


def test_side_effects_are_refused():
    def noisy(x):
        jax.experimental.io_callback(lambda: None, None)
        return jnp.sin(x)

    with pytest.raises(ValueError, match=r"remat of noisy: .*take it out of the block"):
        jax.grad(remat(noisy))(1.0)


def flagged(x, w, sign=1, *, train=False, power=1):
    y = jnp.tanh(x @ w)
    if train:
        y = jnp.sin(y)
    return y**power * sign


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize(
    ("static", "args", "flags"),
    [
        ((), (), {"train": True, "power": 3}),
        ((), (), {"train": False}),
        ((2,), (-1,), {"train": True}),
        (2, (2,), {}),
        ((-1,), (2,), {}),
    ],
)
def test_flags_and_static_arguments_as_in_jax_checkpoint(
    platform, static, args, flags, inputs, monkeypatch
):
    w, x, _ = inputs
    slope = lambda f: jax.grad(lambda x, w: f(x, w, *args, **flags).sum(), (0, 1))(x, w)  # noqa: E731
    want = slope(flagged)
    monkeypatch.setattr(module, "target_platform", lambda: platform)
    block = remat(flagged, static_argnums=static)
    check(slope(block), want)
    check(block(x, w, *args, **flags), flagged(x, w, *args, **flags))


def test_static_arguments_of_any_hashable_kind(inputs):
    w, x, _ = inputs
    block = lambda name, x, w: getattr(jnp, name)(x @ w)  # noqa: E731
    slope = jax.grad(lambda w: remat(block, static_argnums=0)("tanh", x, w).sum())(w)
    check(slope, jax.grad(lambda w: jnp.tanh(x @ w).sum())(w))
    with pytest.raises(ValueError, match="static_argnums has 3, and there are 3 positional"):
        remat(block, static_argnums=3)("tanh", x, w)
    with pytest.raises(ValueError, match="argument 0 is static and of type list, .*not hashable"):
        remat(block, static_argnums=0)(["tanh"], x, w)


def test_the_barrier_form_can_be_exported(inputs):
    w, x, _ = inputs
    block = remat(lambda x, w: jnp.tanh(jnp.sin(x @ w)), native=False)
    slope = jax.jit(jax.grad(lambda w: block(x, w).sum()))
    again = jax.export.deserialize(jax.export.export(slope)(w).serialize())
    check(again.call(w), slope(w))
    check(slope(w), jax.grad(lambda w: jnp.tanh(jnp.sin(x @ w)).sum())(w))
