"""Programs to report on: two compiled ones, one made by hand, and a large one."""

import random
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.xla import compile_traced
from loomax.memory.lifetimes.xla_proto import Origin
from tests.memory.report.programs import BATCH, DIM, LAYERS, NASTY, loop, program_of, step


@pytest.fixture(scope="session")
def traced():
    """(compiled, program) of both."""
    x = jax.ShapeDtypeStruct((BATCH, DIM), jnp.float32)
    weight = jax.ShapeDtypeStruct((DIM, DIM), jnp.float32)
    stacked = jax.ShapeDtypeStruct((LAYERS, DIM, DIM), jnp.float32)
    return {
        "step": compile_traced(jax.jit(step, donate_argnums=0).lower([weight] * LAYERS, x)),
        "loop": compile_traced(jax.jit(loop).lower(stacked, x)),
    }


@pytest.fixture
def small():
    """Three buffers, of which `c` takes the place of `a`, and two blocks for the whole call.

    4 MiB     . b b .
    3 MiB     a a c c
              0 1 2 3
    """
    mib = 2**20
    records = [
        Lifetime("a", 3 * mib, 0, 2, 64, "temporary", alias="a"),
        Lifetime("c", 3 * mib, 2, 4, 64, "temporary", alias="a"),
        Lifetime("b", mib, 1, 3, 64, "temporary"),
    ]
    origins = {
        "a": Origin("a", "fusion", "jit(step)/jvp(attention)/dot_general", "model.py:10"),
        "b": Origin("b", "fusion", "jit(step)/jvp(mlp)/add", "model.py:20"),
        "c": Origin("c", "parameter"),
        "p": Origin("p", "parameter", "params['w']"),
    }
    residents = [
        Lifetime("p", 10 * mib, 0, 4, kind="donated"),
        Lifetime("q", 2 * mib, 0, 4, kind="output"),
    ]
    return program_of(records, {"a": 0, "c": 0, "b": 3 * mib}, origins, 4 * mib, residents)


@pytest.fixture
def nasty(small):
    """`small` with names that would end a script or a formula."""
    origins = {
        id: replace(each, op_name=NASTY, line=f"_{NASTY}.py:1")
        for id, each in small.origins.items()
    }
    return replace(small, module=NASTY, origins=origins)


@pytest.fixture
def bare():
    """A program without temporaries."""
    return program_of([], {}, {}, 0, [Lifetime("p", 4, 0, 1, kind="parameter")])


@pytest.fixture(scope="session")
def large():
    """5,000 buffers on 30 lines, stacked so that each has bytes of its own."""
    draw, records, offsets, origins, top = random.Random(0), [], {}, {}, 0
    for at in range(5000):
        birth, name = draw.randrange(9000), f"fusion.{at}"
        life = draw.randrange(1, 50 if at % 50 else 3000)
        records.append(
            Lifetime(name, 64 * draw.randrange(1, 100), birth, birth + life, 64, "temporary")
        )
        offsets[name], top = top, top + records[-1].size
        line = f"stack.py:{at % 30}"
        origins[name] = Origin(name, "fusion", f"jit(step)/block_{at % 7}/dot_general", line)
    return program_of(records, offsets, origins, top)
