"""Ways to compile, as the TPU compiler takes them."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from loomax.memory.forms.judge import Program, lower
from loomax.memory.forms.levers import DEFAULT, WHOLE_GATHERS
from loomax.runtime.aot import uncached
from loomax.runtime.axes import MeshConfig
from loomax.runtime.collectives import collectives
from loomax.runtime.target import parse_target


@pytest.mark.tpu
def test_a_weight_cut_over_16_chips_is_gathered_whole():
    pytest.importorskip("libtpu", reason="needs the TPU compiler: pip install 'loomax[tpu-aot]'")
    target = parse_target("v5e:4x4", MeshConfig(fsdp=16))
    cut = NamedSharding(target.mesh, PartitionSpec("fsdp"))
    x = jax.ShapeDtypeStruct((8192, 8192), jnp.bfloat16, sharding=cut)
    run = jax.jit(jnp.matmul, out_shardings=cut)
    lowered, _ = lower(Program(run, (x, x)), target)
    kinds = []
    for lever in (DEFAULT, WHOLE_GATHERS):
        with uncached():
            compiled = lowered.compile(compiler_options=dict(lever.options) or None)
        kinds.append(set(collectives(compiled.as_text())))
    assert kinds == [{"collective-permute"}, {"all-gather"}]
