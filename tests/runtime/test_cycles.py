"""How often loops run, by hand and by the TPU compiler's word."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from loomax.runtime.aot import estimate_options, estimated_seconds, report, topology_mesh
from loomax.runtime.cycles import loop_factor

# Before the loop 100 cycles; in it 30, ten times; what a fusion holds is part of its count.
TEXT = """HloModule jit_f

%fused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %inner = f32[8]{0} tanh(%p), backend_config={"estimated_cycles":"7"}
}

%body (carry: (s32[], f32[8])) -> (s32[], f32[8]) {
  %carry = (s32[], f32[8]) parameter(0)
  %x = f32[8]{0} get-tuple-element(%carry), index=1
  ROOT %step = f32[8]{0} fusion(%x), calls=%fused, backend_config={"estimated_cycles":"30"}
}

%condition (carry: (s32[], f32[8])) -> pred[] {
  %carry.1 = (s32[], f32[8]) parameter(0)
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %copy = f32[8]{0} copy(%a), backend_config={"estimated_cycles":"100"}
  ROOT %loop = (s32[], f32[8]) while(%copy), condition=%condition, body=%body, TRIPS
}
"""
KNOWN = 'backend_config={"known_trip_count":{"n":"10"}}'


def test_by_hand():
    assert loop_factor(TEXT.replace("TRIPS", KNOWN)) == pytest.approx(400 / 130)
    assert loop_factor(TEXT.replace("TRIPS", "")) == 1


def test_programs_without_counts():
    text = jax.jit(lambda x: x * 2).lower(jnp.ones(3)).compile().as_text()
    assert loop_factor(text) == 1
    with pytest.raises(ValueError, match="no ENTRY"):
        loop_factor("nothing")


@pytest.mark.tpu
def test_seconds_of_a_loop_are_those_of_its_body_times_its_trips():
    pytest.importorskip("libtpu")
    whole = NamedSharding(topology_mesh("v5e:2x2"), P())
    x = jax.ShapeDtypeStruct((1024, 1024), jnp.bfloat16, sharding=whole)

    def times(count: int) -> tuple[float, float]:
        def product(x, w):
            return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, length=count)[0]

        lowered = jax.jit(product).lower(x, x)
        compiled = lowered.compile(compiler_options=estimate_options("v5e"))
        return estimated_seconds(compiled), report(compiled).optimal_seconds

    (few, few_once), (many, many_once) = times(20), times(80)
    assert many_once == pytest.approx(few_once, rel=0.05)
    assert many / few == pytest.approx(4, rel=0.15)
