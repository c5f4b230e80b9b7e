"""Kernels against NumPy in float64 and against the XLA forms, and which of them is picked where."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.lm import create, kernels, logits
from loomax.models.lm.ops import retention, retention_kernel
from loomax.models.lm.ops.attend import Places
from loomax.models.lm.ops.retention_kernel_body import Form
from loomax.models.lm.presets import transformer_debug, yoco_debug
from loomax.models.lm.span import whole
from loomax.runtime.aot import report, topology_mesh
from loomax.runtime.mesh import MeshConfig, make_mesh, on_mesh, replicated


def draw(batch, length, heads, key, value, seed=0):
    """q, k, v, log_decay and a state."""
    rng = np.random.default_rng(seed)
    q, k = rng.normal(size=(2, batch, length, heads, key)) / key**0.25
    v = rng.normal(size=(batch, length, heads, value))
    log_decay = np.log(rng.uniform(0.3, 1.0, (batch, length, heads)))
    state = rng.normal(size=(batch, heads, key, value))
    return [x.astype(np.float32) for x in (q, k, v, log_decay, state)]


def reference(q, k, v, log_decay, state, segments=None):
    """S_n = gamma_n S_{n-1} + k_n^T v_n, y_n = q_n S_n in float64; documents start from nothing."""
    q, k, v, g, state = (x.astype(np.float64) for x in (q, k, v, log_decay, state))
    out = np.zeros(v.shape)
    for t in range(q.shape[1]):
        if segments is not None and t:
            state = state * (segments[:, t] == segments[:, t - 1])[:, None, None, None]
        state = np.exp(g[:, t])[..., None, None] * state + k[:, t, :, :, None] * v[:, t, :, None]
        out[:, t] = np.einsum("bnk,bnkv->bnv", q[:, t], state)
    return out, state


def interpreted(*args, **given):
    return jax.jit(partial(retention_kernel.chunkwise, **given, interpret=True))(*args)


@pytest.mark.parametrize(("heads", "chunk"), [(4, 8), (3, 64)], ids=["blocks", "one block"])
def test_the_retention_kernel_is_the_definition(heads, chunk):
    args = draw(2, 21, heads, 8, 16)
    y, after = interpreted(*args, chunk=chunk)
    want, last = reference(*args)
    np.testing.assert_allclose(y, want, atol=1e-5)
    np.testing.assert_allclose(after, last, atol=1e-5)


DOCUMENTS = np.array([[0] * 6 + [1] * 2 + [2] * 13, [3] * 8 + [4] * 13], np.int32)


def test_documents_in_the_retention_kernel():
    args = draw(2, 21, 4, 8, 16)
    y, after = interpreted(*args, DOCUMENTS, chunk=8)
    want, last = reference(*args, DOCUMENTS)
    np.testing.assert_allclose(y, want, atol=1e-5)
    np.testing.assert_allclose(after, last, atol=1e-5)


def test_the_retention_kernel_at_its_own_sizes():
    """T = 300 in blocks of 128, heads of 128 x 128, decays from 1 - 1e-3 to 1e-3 a token."""
    q, k, v, _, state = draw(1, 300, 2, 128, 128)
    g = np.broadcast_to(np.array([-1e-3, -7.0], np.float32), (1, 300, 2))
    want, last = reference(q, k, v, g, state)
    y, after = interpreted(q, k, v, g, state, chunk=128)
    scale = np.abs(want).max()
    np.testing.assert_allclose(y / scale, want / scale, atol=1e-5)
    np.testing.assert_allclose(after, last, atol=1e-4)


def test_masked_tokens_leave_the_kernels_state():
    q, k, v, g, state = draw(2, 21, 4, 8, 16)
    count = (5, 17)
    for row, real in enumerate(count):
        k[row, real:], g[row, real:] = 0, 0
    y, after = interpreted(q, k, v, g, state, chunk=8)
    for row, real in enumerate(count):
        short = [x[row : row + 1, :real] for x in (q, k, v, g)]
        want, last = reference(*short, state[row : row + 1])
        np.testing.assert_allclose(y[row : row + 1, :real], want, atol=1e-5)
        np.testing.assert_allclose(after[row : row + 1], last, atol=1e-5)


def test_the_kernel_starts_from_nothing_and_rounds_as_the_chunked_form():
    *heads, log_decay, _ = draw(1, 16, 1, 8, 16)
    args = (*(x.astype(jnp.bfloat16) for x in heads), log_decay)
    y, after = interpreted(*args, chunk=8)
    want, last = jax.jit(partial(retention.chunkwise, chunk=8))(*args)
    assert y.dtype == after.dtype == jnp.float32
    np.testing.assert_allclose(y, want, atol=2e-2)
    np.testing.assert_allclose(after, last, atol=2e-2)


def test_gradients_of_the_retention_kernel():
    args = draw(2, 21, 4, 8, 16)

    def loss(form, args, segments):
        y, state = form(*args, segments, chunk=8)
        return jnp.sin(y).sum() + jnp.cos(state).sum()

    kernel = partial(retention_kernel.chunkwise, interpret=True)
    jax.eval_shape(jax.grad(partial(loss, kernel)), args, None)
    got = jax.jit(jax.grad(partial(loss, kernel)))(args, DOCUMENTS)
    want = jax.jit(jax.grad(partial(loss, retention.chunkwise)))(args, DOCUMENTS)
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_sizes_that_do_not_tile_are_refused():
    args = draw(1, 300, 2, 64, 128)
    with pytest.raises(ValueError, match=r"heads of \(64, 128\) and chunk 256 do not tile"):
        jax.eval_shape(partial(retention_kernel.chunkwise, chunk=256), *args)


def rotated(x, table):
    """Pairs (i, i + H/2) as complex numbers."""
    half = x.shape[-1] // 2
    table = table.astype(np.float64)[:, :, None]
    z = (x[..., :half] + 1j * x[..., half:]) * (table[..., :half] + 1j * table[..., half:])
    return np.concatenate([z.real, z.imag], -1)


def on_the_way(seed=3):
    """Arguments with a table of rotations; the second row has 17 tokens, behind them zeros."""
    args = draw(2, 21, 4, 8, 16)
    angle = np.random.default_rng(seed).uniform(0, 6, (2, 21, 4))
    table = np.concatenate([np.cos(angle), np.sin(angle)], -1).astype(np.float32)
    table[1, 17:], args[3][1, 17:] = 0, 0
    return args, table


WAY = {"chunk": 8, "scale": 0.3, "epsilon": 0.01}


@pytest.mark.parametrize("segments", [None, DOCUMENTS], ids=["whole", "packed"])
@pytest.mark.parametrize("form", ["kernel", "xla"])
def test_rotation_scale_and_norm_on_the_way(form, segments):
    args, table = on_the_way()
    run = partial(retention_kernel.chunkwise, interpret=True)
    run = retention.prepared if form == "xla" else run
    given = tuple(np.split(table, 2, -1)) if form == "xla" else table
    y, after = jax.jit(partial(run, **WAY))(*args, segments, given)
    q, k, *rest = args
    want, last = reference(rotated(q, table), 0.3 * rotated(k, table), *rest, segments)
    want /= np.sqrt(np.square(want).mean(-1, keepdims=True) + 0.01)
    np.testing.assert_allclose(y, want, atol=2e-5)
    np.testing.assert_allclose(after, last, atol=1e-5)


def test_zeros_in_the_table_leave_the_state():
    (q, k, v, g, state), table = on_the_way()
    run = partial(interpreted, chunk=8)
    _, after = run(q, k, v, g, state, None, table)
    _, short = run(*(x[1:, :17] for x in (q, k, v, g)), state[1:], None, table[1:, :17])
    np.testing.assert_allclose(after[1:], short, atol=1e-6)


def test_gradients_through_what_is_done_on_the_way():
    args, table = on_the_way()

    def grads(form, given):
        def loss(args):
            y, state = form(*args, jnp.array(DOCUMENTS), given, **WAY)
            return jnp.sin(y).sum() + jnp.cos(state).sum()

        return jax.jit(jax.grad(loss))(args)

    got = grads(partial(retention_kernel.chunkwise, interpret=True), jnp.array(table))
    parts = tuple(jnp.split(jnp.array(table), 2, axis=-1))
    for ours, theirs in zip(got, grads(retention.prepared, parts), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_a_factor_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match=r"scale is 0.0; .* above 0"):
        interpreted(*draw(1, 8, 1, 8, 8), chunk=8, scale=0.0)


def rows(q, k, v, segments, *, window, implementation):
    if window is None:
        span = whole(*q.shape[:2], segments)
        return kernels.attend_rows(q, k, v, span, scale=0.1, implementation=implementation)
    at = jnp.broadcast_to(jnp.arange(q.shape[1]), q.shape[:2])
    return kernels.attend_window(
        q, k, v, Places(at, segments), None, window=window, scale=0.1, implementation=implementation
    )


@pytest.mark.parametrize(
    ("mesh", "share"),
    [
        (MeshConfig(fsdp=2, tensor=4), 8),
        (MeshConfig(fsdp=4, tensor=2), 2),
    ],
    ids=["both", "too few rows"],
)
def test_devices_share_rows_and_heads(mesh, share):
    """What divides is split, what does not is done by every device."""
    args, mesh = draw(2, 16, 4, 8, 16), make_mesh(mesh)
    form = partial(kernels.retention, segments=None, chunk=8, implementation="interpret")
    with on_mesh(mesh):
        y, after = jax.jit(form)(*jax.device_put(args, replicated(mesh)))
    want, last = reference(*args)
    np.testing.assert_allclose(y, want, atol=1e-5)
    np.testing.assert_allclose(after, last, atol=1e-5)
    assert y.addressable_shards[0].data.size * share == y.size


def test_rows_and_heads_are_split_within_shards_of_rows():
    """Two halves of every row on the mesh axis `context`, each from its own state."""
    q, k, v, g, state = draw(2, 32, 4, 8, 16)
    mesh = make_mesh(MeshConfig(fsdp=2, context=2, tensor=2))
    form = partial(kernels.retention, segments=None, chunk=8, implementation="interpret")
    half, whole = jax.P(None, "context"), jax.P()
    halves = jax.shard_map(
        lambda *args: form(*args)[0],
        mesh=mesh,
        in_specs=(half, half, half, half, whole),
        out_specs=half,
        axis_names={"context"},
        check_vma=False,
    )
    y = jax.jit(halves)(*jax.device_put((q, k, v, g, state), replicated(mesh)))
    for part in (slice(0, 16), slice(16, 32)):
        want, _ = reference(*(x[:, part] for x in (q, k, v, g)), state)
        np.testing.assert_allclose(y[:, part], want, atol=1e-5)
    assert y.addressable_shards[0].data.size * 8 == y.size


def tpu():
    device = jax.sharding.AbstractDevice("TPU v5 lite", 1, platform="tpu")
    return jax.sharding.AbstractMesh((1,), ("fsdp",), abstract_device=device)


def kernels_in(fn, *args, mesh=None):
    """How many kernels a program traced for a TPU has."""
    with jax.sharding.use_abstract_mesh(mesh or tpu()):
        return str(jax.make_jaxpr(fn)(*args)).count("pallas_call[")


def shaped(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.mark.parametrize(
    ("length", "width", "chunk", "packed", "found"),
    [
        (300, 128, 256, False, 1),
        (300, 256, 128, False, 1),
        (300, 128, 256, True, 1),
        (300, 64, 256, False, 0),
        (300, 128, 64, False, 0),
        (16, 128, 256, False, 0),
        (1, 128, 256, False, 0),
    ],
)
def test_retention_is_a_kernel_where_it_tiles(length, width, chunk, packed, found):
    heads, segments = shaped(1, length, 2, width), jnp.zeros((1, length), jnp.int32)

    def form(x, g):
        return kernels.retention(x, x, x, g, None, segments if packed else None, chunk=chunk)

    args = (heads, shaped(1, length, 2))
    assert kernels_in(form, *args) == found
    assert "pallas_call" not in str(jax.make_jaxpr(form)(*args))


@pytest.mark.parametrize(
    ("length", "width", "found"),
    [(512, 128, 1), (600, 64, 1), (384, 128, 0), (512, 32, 0)],
)
@pytest.mark.parametrize("window", [None, 70])
def test_rows_are_splash_where_it_pays(length, width, window, found):
    x = shaped(1, length, 2, width)
    form = partial(rows, segments=None, window=window, implementation=None)
    assert kernels_in(form, x, x, x) == found
    assert "pallas_call" not in str(jax.make_jaxpr(form)(x, x, x))


def test_a_ring_stays_with_xla():
    x, ring = shaped(1, 512, 2, 128), shaped(1, 64, 2, 128)
    at, slots = jnp.zeros((1, 512), jnp.int32), jnp.zeros((1, 64), jnp.int32)

    def form(x, ring):
        past = (ring, ring, slots)
        return kernels.attend_window(x, x, x, Places(at), past, window=64, scale=1.0)

    assert kernels_in(form, x, ring) == 0


def test_the_layout_of_tokens_is_asked_for_on_tpu_alone():
    x = shaped(2, 8, 16)

    def total(x):
        return jnp.sin(kernels.row_major(x)).sum()

    with jax.sharding.use_abstract_mesh(tpu()):
        assert "layout_constraint" in str(jax.make_jaxpr(jax.grad(total))(x))
    assert "layout_constraint" not in str(jax.make_jaxpr(kernels.row_major)(x))


SIZES = {"heads": 2, "kv_heads": 1, "head_dim": 64}
WIDE = {"mixer_heads": 2, "mixer_head_dim": 128, "chunk": 128, "window": 128, **SIZES}


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (replace(yoco_debug("gated_retention"), **WIDE), 2),
        (replace(yoco_debug("sliding_window"), **WIDE), 2),
        (replace(transformer_debug("attention"), **SIZES), 1),
    ],
    ids=["gated_retention", "sliding_window", "attention"],
)
@pytest.mark.parametrize("devices", [1, 2])
def test_models_use_the_kernels(config, found, devices):
    """Layers are scanned: one kernel for all self layers and one for all cross layers."""
    params = jax.eval_shape(lambda: create(config, key=jax.random.key(0)))
    tokens = jax.ShapeDtypeStruct((2, 512), jnp.int32)
    mesh = make_mesh(MeshConfig(fsdp=devices), jax.devices()[:devices]).abstract_mesh
    mesh = mesh.update(abstract_device=tpu().abstract_device)
    assert kernels_in(partial(logits, config), params, tokens, mesh=mesh) == found


def test_a_model_by_kernels_is_the_model(monkeypatch):
    """Packed rows: retention and, in the cross layers, splash attention."""
    config = yoco_debug()
    params = create(config, key=jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (2, 21), 0, config.vocab)
    want = jax.jit(partial(logits, config))(params, tokens, jnp.array(DOCUMENTS))
    monkeypatch.setattr(kernels, "_kernel_or_xla", lambda *_: "interpret")
    monkeypatch.setattr(kernels, "_splash_or_xla", lambda *_: "interpret")
    got = jax.jit(partial(logits, config))(params, tokens, jnp.array(DOCUMENTS))
    np.testing.assert_allclose(got, want, atol=1e-4)


PLAIN = Form(group=1, packed=False, turned=False, scale=1.0, epsilon=None)


def test_the_cost_is_that_of_the_shapes():
    """One head, one block: two products of [L, L], two of a state, in operations and bytes."""
    found = retention_kernel.cost(PLAIN, 1, 1, 128, 1, (128, 256), (2, 4))
    products = 2 * (128 * 128 * (128 + 256) + 2 * 128 * 128 * 256)
    assert products < found.flops < 1.1 * products
    moved = 128 * 2 * (128 + 128 + 256) + 128 * 256 * 4 + 2 * 128 * 256 * 4
    assert moved < found.bytes_accessed < 1.1 * moved


def test_the_cost_of_what_is_done_on_the_way():
    """Two groups of three heads: the table once a group, outputs half as wide."""
    form = PLAIN._replace(group=3, turned=True, epsilon=1e-5)
    sizes = (1, 2, 128, 6, (128, 128))
    plain = retention_kernel.cost(PLAIN._replace(group=3), *sizes, (2, 4))
    found = retention_kernel.cost(form, *sizes, (2, 2))
    tokens = 2 * 128
    table, narrower = 2 * tokens * 128 * 4, 6 * tokens * 128 * 2
    assert found.bytes_accessed - plain.bytes_accessed == table - narrower
    assert 0 < found.flops - plain.flops < 0.1 * plain.flops


@pytest.fixture
def unstored():
    """A program for TPUs that comes from the cache on disk cannot be loaded without a TPU."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, 1e9)
    yield
    jax.config.update(name, before)


@pytest.mark.tpu
@pytest.mark.usefixtures("unstored")
def test_the_tpu_compiler_takes_the_retention_kernel():
    """4096 tokens, 24 heads of 128 x 128, rows on two chips and heads on two."""
    pytest.importorskip("libtpu")
    mesh = topology_mesh("v5e:2x2", MeshConfig(fsdp=2, tensor=2))

    def at(dtype, spec, *shape):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=jax.NamedSharding(mesh, spec))

    flat = at(jnp.bfloat16, jax.P("fsdp", None, "tensor"), 2, 4096, 24 * 128)
    log_decay = at(jnp.float32, jax.P("fsdp", None, "tensor"), 2, 4096, 24)
    state = at(jnp.float32, jax.P("fsdp", "tensor"), 2, 24, 128, 128)

    def form(q, k, v, log_decay, state):
        q, k, v = (x.reshape(2, 4096, 24, 128) for x in (q, k, v))
        y, state = kernels.retention(q, k, v, log_decay, state, None, chunk=256)
        return y.reshape(2, 4096, -1), state

    with on_mesh(mesh):
        found = report(jax.jit(form).lower(flat, flat, flat, log_decay, state).compile())
    form = PLAIN._replace(group=6)
    cost = retention_kernel.cost(form, 1, 16, 256, 12, (128, 128), (2, 4))
    assert found.flops == pytest.approx(cost.flops, rel=0.01)
    assert found.bytes_accessed == pytest.approx(cost.bytes_accessed, rel=0.1)
    # The scores alone would be 12 * 4096 * 256 * 4 bytes = 50 MB.
    assert found.temp_bytes < 2 * 2**20
