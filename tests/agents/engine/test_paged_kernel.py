"""The kernel for attention to pages: against NumPy in float64, and where it is picked."""

import asyncio
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.engine.config import EngineConfig, SpeculativeConfig
from loomax.agents.engine.engine import Engine
from loomax.agents.engine.programs import Programs
from loomax.agents.engine.sampling import Draws
from loomax.agents.engine.sharding import params_on, store_on
from loomax.agents.engine.store import Batch, empty_store
from loomax.models.lm import kernels, kv, shapes
from loomax.models.lm.kernels import attend_cached
from loomax.models.lm.ops import paged_kernel
from loomax.models.lm.presets import transformer_debug, yoco_debug
from loomax.models.lm.span import Span
from loomax.runtime.aot import report, topology_mesh
from loomax.runtime.mesh import MeshConfig, make_mesh, on_mesh, replicated
from tests.agents.engine.conftest import MODELS as TINY
from tests.agents.engine.conftest import SIZES, alone, generate, params_of, run

SCALE = 0.3


def draw(page, heads, kv_heads, widths, *, pages=40, table=21, length=3, dtype=np.float32):
    """Rows of 1, of 2 and of 20 pages, ragged, and one with nothing."""
    rng = np.random.default_rng(0)
    q = rng.normal(size=(4, length, heads, widths[0])).astype(dtype)
    keys, values = (
        rng.normal(size=(pages, page, kv_heads, width)).astype(dtype) for width in widths
    )
    start, count = np.array([0, page + 1, 19 * page - 1, 0]), np.array([1, 3, 2, 0])
    tables = np.full((4, table), pages)
    places = rng.permutation(pages)
    for row in range(3):
        used = -(-int(start[row] + count[row]) // page)
        tables[row, :used], places = places[:used], places[used:]
    # Pages of nobody: whoever reads them shows it.
    keys[places], values[places] = np.nan, np.nan
    return q, keys, values, *(x.astype(np.int32) for x in (tables, start, count))


def reference(q, keys, values, table, start, count):
    """Token by token and head by head; queries that are not real are left out."""
    q, keys, values = (x.astype(np.float64) for x in (q, keys, values))
    page, kv_heads = keys.shape[1:3]
    out = np.full((*q.shape[:3], values.shape[-1]), np.nan)
    for row, token, head in np.ndindex(q.shape[:3]):
        if token >= count[row]:
            continue
        shared = head // (q.shape[2] // kv_heads)
        places = [(table[row, at // page], at % page) for at in range(start[row] + token + 1)]
        seen = np.array([keys[p, slot, shared] for p, slot in places])
        scores = SCALE * seen @ q[row, token, head]
        weights = np.exp(scores - scores.max())
        read = np.array([values[p, slot, shared] for p, slot in places])
        out[row, token, head] = weights @ read / weights.sum()
    return out


def close(found, given, atol):
    want, real = reference(*given), np.arange(given[0].shape[1]) < given[-1][:, None]
    np.testing.assert_allclose(np.asarray(found, np.float64)[real], want[real], atol=atol)


interpreted = jax.jit(partial(paged_kernel.attend, scale=SCALE, interpret=True))


@pytest.mark.parametrize(
    ("page", "heads", "kv_heads", "widths", "together"),
    [(4, 4, 2, (6, 10), 16), (3, 3, 3, (8, 8), 16), (4, 6, 1, (5, 4), 2)],
)
def test_the_kernel_is_the_definition(page, heads, kv_heads, widths, together, monkeypatch):
    """Groups of heads, pages of any size, two blocks and eleven."""
    monkeypatch.setattr(paged_kernel, "MOST_PAGES", together)
    given = draw(page, heads, kv_heads, widths)
    close(jax.jit(partial(paged_kernel.attend, scale=SCALE, interpret=True))(*given), given, 1e-5)


def test_the_kernel_rounds_as_the_gather_path_does():
    """bfloat16 pages: sums are float32, weights are rounded before they meet values."""
    given = [x.astype(jnp.bfloat16) if x.dtype == np.float32 else x for x in draw(4, 4, 2, (8, 8))]
    found = interpreted(*map(jnp.asarray, given))
    assert found.dtype == jnp.bfloat16
    close(found, given, 0.03)


def attended(implementation, q, keys, values, table, start, count):
    store = kv.PagedKV(keys, values, None, None, table)
    span = Span(start, count)
    return attend_cached(q, store, span, scale=SCALE, implementation=implementation)


def test_both_paths_agree_on_a_mesh():
    """Rows on two devices and heads on two."""
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2), jax.devices()[:4])
    given = draw(4, 4, 2, (8, 8))

    def form(*args):
        with on_mesh(mesh):
            return attended("interpret", *args)

    found = jax.jit(form)(*jax.device_put(given, replicated(mesh)))
    assert found.addressable_shards[0].data.size * 4 == found.size
    close(found, given, 1e-5)
    # That path reads pages of nobody, with weight 0.
    finite = [np.nan_to_num(x) for x in given]
    close(jax.jit(partial(attended, "xla"))(*map(jnp.asarray, finite)), given, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "mesh"), [("attention", False), ("gated_retention", True)])
def test_an_engine_with_the_kernel_gives_the_same_tokens(kind, mesh, monkeypatch):
    """Chunks of prompts, single tokens and guesses; also on a mesh."""
    monkeypatch.setattr(kernels, "_pages_or_xla", lambda q, store: "interpret")
    # These have no window: a kind of its own, which no engine with another path has compiled.
    model = replace(TINY[kind], window=7)
    config = replace(SIZES, slots=2, speculative=SpeculativeConfig("ngram", tokens=3))
    where = make_mesh(MeshConfig(fsdp=2, tensor=2), jax.devices()[:4]) if mesh else None
    engine = Engine(model, params_of(kind), config, mesh=where)
    prompts = [[5, 6, 7] * 4, [1, 2, 3, 4, 5], [9]]

    async def body(engine):
        return await asyncio.gather(*(generate(engine, prompt, 9) for prompt in prompts))

    assert run(engine, body) == [alone(kind, prompt, 9)[0] for prompt in prompts]
    assert engine.scheduler.guessed > 0


def tpu(shape=(1,), names=("tensor",)):
    device = jax.sharding.AbstractDevice("TPU v5 lite", 1, platform="tpu")
    return jax.sharding.AbstractMesh(shape, names, abstract_device=device)


@pytest.mark.parametrize(
    ("changes", "tensor", "found"),
    [
        ({}, 1, 1),
        ({"kv_heads": 1}, 1, 1),
        ({"kv_heads": 16}, 1, 1),
        ({"kv_heads": 16}, 2, 1),
        ({"queries": 16}, 1, 1),
        # More queries than pay.
        ({"queries": 17}, 1, 0),
        ({"queries": 16, "heads": 32}, 1, 0),
        ({"queries": 16, "heads": 32}, 2, 1),
        # Tokens that do not fill tiles: on each device, too.
        ({"heads": 24, "kv_heads": 12}, 1, 0),
        ({"heads": 24, "kv_heads": 24}, 1, 1),
        ({"heads": 24, "kv_heads": 24}, 2, 0),
        ({"kv_heads": 1, "page": 4}, 1, 0),
        ({"width": 64}, 1, 0),
        # One page is more than fast memory holds twice.
        ({"page": 512}, 1, 1),
        ({"page": 1024}, 1, 0),
        ({"queries": 8, "page": 512}, 1, 0),
        ({"table": 1 << 16}, 1, 0),
        ({"bits": 8}, 1, 0),
    ],
)
def test_pages_are_read_by_the_kernel_where_that_pays(changes, tensor, found):
    sizes = {"heads": 16, "kv_heads": 8, "width": 128, "page": 16, "queries": 1, "table": 8}
    sizes |= {"bits": 16, **changes}
    heads, width = sizes["kv_heads"], sizes["width"]
    pool = jax.eval_shape(
        partial(kv.empty, 9, sizes["page"], heads, (width, width), jnp.bfloat16, sizes["bits"])
    )
    q = jax.ShapeDtypeStruct((2, sizes["queries"], sizes["heads"], width), jnp.bfloat16)
    table, numbers = (jax.ShapeDtypeStruct(x, jnp.int32) for x in ((2, sizes["table"]), (2,)))

    def form(pool, q, table, at):
        store = kv.PagedKV(pool.keys, pool.values, pool.key_scale, pool.value_scale, table)
        return attend_cached(q, store, Span(at, at), scale=SCALE)

    with jax.sharding.use_abstract_mesh(tpu((tensor,))):
        traced = str(jax.make_jaxpr(form)(pool, q, table, numbers))
    assert traced.count("pallas_call[") == found
    assert "pallas_call" not in str(jax.make_jaxpr(form)(pool, q, table, numbers))


def test_a_block_is_what_fits_into_fast_memory():
    def pages(queries, width, page, heads):
        return paged_kernel.pages_together(queries, width, page * heads, 2 * 128 * 2)

    # 16 pages of 16 tokens and 8 heads are 2 MiB, keys and values in two copies.
    assert pages(16, 128, 16, 8) == 16
    assert pages(16, 11, 16, 8) == 8
    # 64 heads: 1 MiB a page. 256 queries: 128 KiB of scores a page.
    assert pages(64, 128, 16, 64) == 4
    assert pages(256, 128, 16, 8) == 8
    assert pages(256, 128, 256, 64) == 1


def test_the_cost_is_that_of_the_shapes():
    """2 rows of 4 pages of 16 tokens, 8 of 16 heads' keys."""
    form = paged_kernel.Form(16, 8, 16, 4, 1.0)
    found = paged_kernel.cost(form, 2, 4, 16, (128, 256), 2)
    keys = 4 * 16 * 8
    assert found.flops == 2 * 2 * 16 * keys * (128 + 256)
    assert found.bytes_accessed == 2 * 2 * (keys + 16) * (128 + 256)
    assert found.transcendentals == 2 * 16 * keys


@pytest.fixture
def unstored():
    """A program for TPUs that comes from the cache on disk cannot be loaded without a TPU."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, 1e9)
    yield
    jax.config.update(name, before)


WIDE = {"width": 256, "heads": 8, "kv_heads": 4, "head_dim": 128, "dtype": "bfloat16"}
MODELS = {
    "yoco": replace(yoco_debug(), **WIDE, self_layers=1, cross_layers=2),
    "transformer": replace(transformer_debug(), **WIDE, self_layers=2),
}


def decoding(model, config, mesh):
    """The step in which every slot gets a token, compiled for a mesh."""

    def at(x, where):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)

    def numbers(*shape, dtype=jnp.int32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=replicated(mesh))

    model, params = replace(model, unroll=True), shapes(model)
    params = jax.tree.map(at, params, params_on(model, params, mesh))
    store = jax.eval_shape(partial(empty_store, model, config))
    store = jax.tree.map(at, store, store_on(model, mesh))
    (width,), slots = config.widths, config.slots
    words = numbers(slots, dtype=jnp.uint32)
    draws = Draws(numbers(slots, dtype=jnp.float32), words, words)
    one = numbers(slots)
    batch = Batch(numbers(slots, 1), one, one, numbers(slots, width), one, draws)
    return Programs((model,), mesh).extend.lower((params,), (store,), batch).compile()


@pytest.mark.tpu
@pytest.mark.usefixtures("unstored")
@pytest.mark.parametrize("kind", MODELS)
def test_the_tpu_compiler_takes_a_step_with_the_kernel(kind):
    """16 slots of 4096 tokens, on two chips by rows and on two by heads."""
    pytest.importorskip("libtpu", reason="needs the TPU compiler: pip install 'loomax[tpu-aot]'")
    mesh = topology_mesh("v5e:2x2", MeshConfig(fsdp=2, tensor=2))
    # So many pages that the compiler cannot fetch all of them into fast memory.
    config = EngineConfig(slots=16, context=4096, page=16, pages=1 << 15)
    compiled = decoding(MODELS[kind], config, mesh)
    assert compiled.as_text().count("%paged_attention") >= 2
    found = report(compiled)
    # Two layers read keys and values of 128 numbers: 8 rows, 2 heads, 2 bytes each.
    read = 2 * 2 * 128 * 8 * 4096 * 2 * 2
    assert read < found.bytes_accessed < 1.25 * read
    assert found.temp_bytes < read / 16
