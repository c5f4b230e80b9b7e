"""Keys and values in pages against the same in rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.lm import kv
from loomax.models.lm.kernels import attend_cached
from loomax.models.lm.span import Span

PAGES, SIZE, HEADS, WIDTH = 7, 4, 2, 6
# At these sizes nothing takes time but compiling.
write, attend = (
    jax.jit(
        f,
        static_argnames="scale" if f is attend_cached else (),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    for f in (kv.write, attend_cached)
)
TABLE = jnp.array([[5, 0, 3], [2, 6, 7]])  # Row 1 has two pages.


@pytest.mark.parametrize("bits", [16, 8])
def test_pages_hold_what_rows_hold(bits):
    """Blocks that cross pages, ragged; what has no page is dropped and disturbs nobody."""
    dense = kv.empty(2, 12, HEADS, (WIDTH, WIDTH), jnp.float32, bits)
    pool = kv.empty(PAGES, SIZE, HEADS, (WIDTH, WIDTH), jnp.float32, bits)
    paged = kv.PagedKV(pool.keys, pool.values, pool.key_scale, pool.value_scale, TABLE)
    assert paged.slots == 12
    keys = jax.random.split(jax.random.key(0), 5)
    for number, (start, count) in enumerate((((0, 0), (5, 3)), ((5, 3), (2, 5)), ((7, 8), (5, 2)))):
        start, count = jnp.array(start), jnp.array(count)
        k, v = jax.random.normal(keys[number], (2, 2, 5, HEADS, WIDTH))
        dense = write(dense, k, v, start, count)
        paged = write(paged, k, v, start, count)
    found = kv.gathered(paged)
    for name in ("keys", "values", *(("key_scale", "value_scale") if bits == 8 else ())):
        one, other = (np.asarray(getattr(x, name)) for x in (dense, found))
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1, :8], other[1, :8])
    assert not np.asarray(paged.keys)[[1, 4]].any()
    q = jax.random.normal(keys[4], (2, 2, 4, WIDTH))
    span = Span(jnp.array([9, 5]), jnp.array([2, 2]))
    one, other = (attend(q, store, span, scale=0.4) for store in (dense, paged))
    np.testing.assert_allclose(one, other, atol=1e-6)
