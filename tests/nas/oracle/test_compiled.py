"""Oracles that compile: on this CPU, and for a chip that is not here."""

import importlib.util
import math

import jax
import jax.numpy as jnp
import pytest

from loomax.nas.oracle.config import CpuConfig
from loomax.nas.oracle.devices import oracle_of
from loomax.nas.oracle.tpu import refuse_loops
from loomax.nas.space.blocks import Conv, MBConv

BLOCKS = ((Conv(8, 1, 4, 3, 2),), (MBConv(4, 4, 4, 8, 3),))


def test_cpu_time_of_blocks():
    settings = CpuConfig(rounds=1, repeats=1, sample_seconds=1e-4, max_load=1e9)
    readings = list(oracle_of("cpu", cpu=settings).measure(BLOCKS))
    assert len(readings) == 2
    assert all(0 < reading.seconds < math.inf for reading in readings)


@pytest.mark.tpu
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_the_compiler_estimates_blocks():
    few, many = (list(oracle_of("v5e", batch).measure(BLOCKS[:1]))[0] for batch in (1, 512))
    assert 0 < few.seconds < many.seconds < 1


def test_programs_with_loops_are_refused():
    def looped(x):
        return jax.lax.scan(lambda y, _: (y * 2, None), x, length=3)[0]

    refuse_loops(jax.make_jaxpr(jnp.sin)(1.0))
    with pytest.raises(ValueError, match="the program has a scan: .* unroll it"):
        refuse_loops(jax.make_jaxpr(jax.jit(looped))(1.0))
