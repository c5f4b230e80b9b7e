"""Counting what compiled programs send, against what was written by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from loomax.runtime.collectives import Traffic, collectives, total_bytes

LAYERS, ROWS = 3, 8


@pytest.fixture(scope="module")
def text():
    """A scan over layers whose every round sums 8 x 4 floats over two devices."""
    mesh = Mesh(jax.devices()[:2], ("x",))

    def layer(x, w):
        # The contracted axis is cut, so each device has a part of the sum.
        return jax.lax.with_sharding_constraint(x @ w, NamedSharding(mesh, P(None, "x"))), None

    def run(x, ws):
        x, _ = jax.lax.scan(layer, x, ws)
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P()))

    x = jax.ShapeDtypeStruct((ROWS, 4), jnp.float32, sharding=NamedSharding(mesh, P(None, "x")))
    ws = jax.ShapeDtypeStruct(
        (LAYERS, 4, 4), jnp.float32, sharding=NamedSharding(mesh, P(None, "x"))
    )
    return jax.jit(run).lower(x, ws).compile().as_text()


def test_loops_are_multiplied_out(text):
    found = collectives(text)
    whole = ROWS * 4 * 4
    inside = found.get("all-reduce") or found["reduce-scatter"]
    assert inside == Traffic(LAYERS, LAYERS * whole)
    assert found["all-gather"] == Traffic(1, whole)
    assert total_bytes(found) == (LAYERS + 1) * whole


WRITTEN = """HloModule written

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%fused (p: bf16[2,8]) -> bf16[16,8] {
  %p = bf16[2,8]{1,0} parameter(0)
  ROOT %again = bf16[16,8]{1,0} all-gather(%p), channel_id=1, dimensions={0}
}

%body (c: (s32[], f32[64])) -> (s32[], f32[64]) {
  %c = (s32[], f32[64]{0}) parameter(0)
  %x = f32[64]{0} get-tuple-element(%c), index=1
  %i = s32[] get-tuple-element(%c), index=0
  %part = f32[8]{0} reduce-scatter(%x), channel_id=2, dimensions={0}, to_apply=%add
  %moved = f32[64]{0} collective-permute(%x), channel_id=3, source_target_pairs={{0,1}}
  ROOT %out = (s32[], f32[64]{0}) tuple(%i, %moved)
}

%condition (c: (s32[], f32[64])) -> pred[] {
  %c.1 = (s32[], f32[64]{0}) parameter(0)
  %limit = s32[] constant(5)
  %i.1 = s32[] get-tuple-element(%c.1), index=0
  ROOT %less = pred[] compare(%i.1, %limit), direction=LT
}

ENTRY %main (x: bf16[2,8], s: (s32[], f32[64])) -> f32[64] {
  %x.1 = bf16[2,8]{1,0} parameter(0)
  %s = (s32[], f32[64]{0}) parameter(1)
  %start = (bf16[2,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(%x.1), channel_id=1, dimensions={0}
  %done = bf16[16,8]{1,0} all-gather-done(%start)
  %same = bf16[16,8]{1,0} fusion(%x.1), kind=kCustom, calls=%fused
  %loop = (s32[], f32[64]{0}) while(%s), condition=%condition, body=%body
  ROOT %y = f32[64]{0} get-tuple-element(%loop), index=1
}
"""


def test_kinds_channels_and_trip_counts():
    assert collectives(WRITTEN) == {
        "all-gather": Traffic(1, 16 * 8 * 2),
        "reduce-scatter": Traffic(5, 5 * 64 * 4),
        "collective-permute": Traffic(5, 5 * 64 * 4),
    }


def test_loops_may_count_in_unsigned_numbers():
    found = collectives(WRITTEN.replace("s32[] constant(5)", "u32[]{:T(128)} constant(9)"))
    assert found["reduce-scatter"].count == 9


def test_loops_may_count_by_more_than_one():
    by_two = "%two = s32[] constant(2)\n  %next = s32[] add(%i, %two)\n  ROOT %out"
    text = WRITTEN.replace("ROOT %out", by_two).replace("tuple(%i, %moved)", "tuple(%next, %moved)")
    assert collectives(text)["reduce-scatter"].count == 3


def test_what_the_compiler_knows_of_a_loop_goes_first():
    known = 'body=%body, backend_config={"known_trip_count":{"n":"7"}}'
    assert collectives(WRITTEN.replace("body=%body", known))["reduce-scatter"].count == 7


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        collectives("module @jit_f {}")
