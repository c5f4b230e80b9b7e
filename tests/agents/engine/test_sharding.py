"""Engines that are spread over a mesh against decoding each request on one device."""

import asyncio
import logging
from dataclasses import replace

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from loomax.agents.engine.config import SpeculativeConfig
from loomax.agents.engine.sharding import check_mesh, params_on, store_on
from loomax.runtime.mesh import MeshConfig, make_mesh
from tests.agents.engine.conftest import (
    MODELS,
    SIZES,
    alone,
    engine_of,
    generate,
    leaks,
    params_of,
    run,
)

RNG = np.random.default_rng(2)
PROMPTS = [RNG.integers(0, 37, n).tolist() for n in (1, 5, 19, 9, 12)]
# A number of rows that `fsdp` divides, too.
CONFIG = replace(SIZES, slots=2)


def mesh_of(fsdp=1, tensor=1):
    return make_mesh(MeshConfig(fsdp=fsdp, tensor=tensor), jax.devices()[: fsdp * tensor])


def check_tokens(engine, kind):
    async def body(engine):
        return await asyncio.gather(*(generate(engine, prompt, 7) for prompt in PROMPTS))

    assert run(engine, body) == [alone(kind, prompt, 7)[0] for prompt in PROMPTS]
    assert leaks(engine) == (0, 0)


@pytest.fixture
def compiling(caplog):
    """What is compiled, in all threads."""
    before = jax.config.jax_log_compiles
    jax.config.update("jax_log_compiles", True)
    with caplog.at_level(logging.WARNING):
        yield lambda: [line for line in caplog.messages if line.startswith("Compiling jit")]
    jax.config.update("jax_log_compiles", before)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("gated_retention", {"fsdp": 2, "tensor": 2}),
        ("attention", {"tensor": 2}),
        # Two key-value heads for four devices: pages stay whole.
        pytest.param("attention", {"tensor": 4}, marks=SLOW),
        pytest.param("attention", {"fsdp": 2}, marks=SLOW),
        pytest.param("gated_retention", {"fsdp": 2}, marks=SLOW),
        pytest.param("gated_retention", {"tensor": 2}, marks=SLOW),
        pytest.param("int8", {"fsdp": 2, "tensor": 2}, marks=SLOW),
        pytest.param("mla", {"tensor": 2}, marks=SLOW),
        pytest.param("gated_deltanet", {"tensor": 2}, marks=SLOW),
        pytest.param("sliding_window", {"tensor": 2}, marks=SLOW),
    ],
)
def test_tokens_are_those_of_one_device(kind, sizes, compiling):
    """Also: nothing is compiled after the warm-up, and arrays stay where they belong."""
    for prompt in PROMPTS:
        alone(kind, prompt, 7)
    mesh = mesh_of(**sizes)
    engine = engine_of(kind, CONFIG, mesh=mesh)
    engine.warm_up()
    before = len(compiling())
    assert before >= 6
    check_tokens(engine, kind)
    assert compiling()[before:] == []
    where = store_on(replace(MODELS[kind], unroll=True), mesh)
    same = jax.tree.map(lambda x, there: x.sharding == there, stores(engine), where)
    assert all(jax.tree.leaves(same))


def stores(engine):
    (store,) = engine.device._stores
    return store


@pytest.mark.slow
def test_guesses_on_a_mesh_change_nothing():
    speculative = SpeculativeConfig("self", tokens=3)
    config = replace(CONFIG, speculative=speculative)
    engine = engine_of("gated_retention", config, mesh=mesh_of(tensor=2))
    check_tokens(engine, "gated_retention")
    assert engine.scheduler.accepted > 0


def specs(tree):
    return {
        ".".join(str(getattr(key, "key", getattr(key, "name", ""))) for key in path): x.spec
        for path, x in jax.tree.leaves_with_path(tree)
    }


def test_parameters_lie_by_heads_width_and_vocabulary():
    mesh = mesh_of(fsdp=2, tensor=2)
    found = specs(params_on(MODELS["gated_retention"], params_of("gated_retention"), mesh))
    inwards, outwards = P(None, "fsdp", "tensor"), P(None, "tensor", "fsdp")
    for name in ("q", "k", "v", "gate", "decay"):
        assert found.pop(f"self_layers.mixer.{name}") == inwards
    assert found.pop("cross_layers.mixer.q") == inwards
    for kind in ("self_layers", "cross_layers"):
        assert found.pop(f"{kind}.mixer.out") == found.pop(f"{kind}.hidden.down") == outwards
        assert found.pop(f"{kind}.hidden.gate") == found.pop(f"{kind}.hidden.up") == inwards
    assert found.pop("shared_kv.k") == found.pop("shared_kv.v") == P("fsdp", "tensor")
    # The vocabulary is 37.
    assert (found.pop("embedding"), found.pop("head")) == (P(None, "fsdp"), P("fsdp", None))
    assert all("norm" in name and set(spec) <= {None} for name, spec in found.items())


def test_heads_are_never_cut():
    """Two key-value heads of 8 numbers, four devices."""
    found = specs(params_on(MODELS["attention"], params_of("attention"), mesh_of(tensor=4)))
    assert found["self_layers.mixer.k"] == P(None, "fsdp", None)
    assert found["self_layers.mixer.q"] == P(None, "fsdp", "tensor")
    wide = replace(MODELS["gated_retention"], mixer_heads=4)
    found = specs(params_on(wide, params_of("gated_retention"), mesh_of(tensor=4)))
    assert found["self_layers.mixer.k"] == P(None, "fsdp", "tensor")
    assert found["shared_kv.k"] == P("fsdp", None)


@pytest.mark.parametrize(
    ("kind", "states", "shared"),
    [
        ("gated_retention", P(None, "tensor"), P(None, None, "tensor")),
        ("sliding_window", P(None, None, "tensor"), P(None, None, "tensor")),
        ("attention", P(None, None, "tensor"), None),
        ("int8", P(None, None, "tensor"), None),
        # One latent for all heads.
        ("mla", P(None, None, None), None),
    ],
)
def test_what_is_cached_lies_by_heads(kind, states, shared):
    found = store_on(replace(MODELS[kind], unroll=True), mesh_of(fsdp=2, tensor=2))
    recurrent = kind in ("gated_retention", "sliding_window")
    assert {x.spec for x in jax.tree.leaves(found.states)} == {states}
    assert {x.spec for x in jax.tree.leaves(found.snapshots)} == ({states} if recurrent else set())
    assert {x.spec for x in jax.tree.leaves(found.shared)} == ({shared} if shared else set())


def test_meshes_that_do_not_fit_are_refused(monkeypatch):
    message = "mesh.tensor is 4, which does not divide mixer_heads 2: use a mesh with tensor 1 or 2"
    with pytest.raises(ValueError, match=message):
        engine_of("gated_retention", mesh=mesh_of(tensor=4))
    with pytest.raises(ValueError, match="does not divide heads 4: use a mesh with tensor 1 or 2"):
        engine_of("attention", mesh=mesh_of(tensor=8))
    # Heads that no layer has do not count.
    check_mesh(replace(MODELS["gated_retention"], cross_layers=0, heads=3, kv_heads=1), mesh_of())
    small = (MODELS["gated_retention"], params_of("gated_retention"))
    guessing = replace(CONFIG, speculative=SpeculativeConfig("model"))
    with pytest.raises(ValueError, match="does not divide mixer_heads 2"):
        engine_of("attention", guessing, drafter=small, mesh=mesh_of(tensor=4))
    with pytest.raises(ValueError, match="a mesh of axes x has no 'fsdp': use make_mesh"):
        engine_of("attention", mesh=jax.make_mesh((2,), ("x",), devices=jax.devices()[:2]))
    monkeypatch.setattr(Mesh, "is_multi_process", property(lambda mesh: True))
    with pytest.raises(ValueError, match="a mesh of 2 devices lies in several processes"):
        engine_of("attention", mesh=mesh_of(fsdp=2))
