"""Training programs through the TPU compiler, without a TPU."""

import jax
import pytest

from loomax.agents.rl import aot
from loomax.agents.rl.presets import debug
from loomax.runtime.aot import CompileReport


def test_unknown_topologies_are_refused_in_one_line():
    with pytest.raises(ValueError, match="unknown topology 'v5x:2x2': did you mean v5") as caught:
        aot.compile_train(debug(), "v5x:2x2")
    assert "\n" not in str(caught.value)


def test_unknown_programs_are_refused():
    with pytest.raises(ValueError, match="unknown program 'updates': did you mean update"):
        aot.compile_train(debug(), "v5e:2x2", only=("updates",))


def check(found, out, names):
    assert tuple(found) == names
    for name, verdict in found.items():
        assert isinstance(verdict, CompileReport)
        assert verdict.argument_bytes > 0 and verdict.fits(16 * 2**30)
        assert verdict.optimal_seconds >= 0
        assert f"\n{name}: " in out
    assert "4 devices (replica 1 x fsdp 4 x context 1 x tensor 1)" in out
    assert "trained.vla.expert.gating" in out and "counted once" in out


@pytest.mark.tpu
def test_the_learning_steps_compile_for_a_slice(capsys):
    pytest.importorskip("libtpu", reason="needs the TPU compiler: pip install 'loomax[tpu-aot]'")
    found = aot.compile_train(debug(), "v5e:2x2", only=("sft", "update"))
    check(found, capsys.readouterr().out, ("sft", "update"))


@pytest.mark.tpu
@pytest.mark.slow
def test_the_whole_iteration_compiles_for_a_slice(capsys):
    pytest.importorskip("libtpu", reason="needs the TPU compiler: pip install 'loomax[tpu-aot]'")
    found = aot.compile_train(debug(), "v5e:2x2", only=("iteration",))
    check(found, capsys.readouterr().out, ("iteration",))


class Starved:
    """A traced program whose compilation fails with the given words."""

    def __init__(self, words):
        self.words, self.jaxpr = words, jax.make_jaxpr(lambda: 0)()

    def __call__(self):
        raise AssertionError("only compiled, never run")

    def trace(self):
        return self

    def lower(self):
        return self

    def compile(self):
        raise jax.errors.JaxRuntimeError(self.words)


def test_lack_of_memory_is_a_verdict_and_other_failures_are_errors():
    mesh = jax.make_mesh((8,), ("fsdp",))
    words = "RESOURCE_EXHAUSTED: 45G exceeds 15G\nSee there"
    starved = aot.Program("note", Starved(words), (), key=False)
    assert aot.compile_program(starved, mesh) == ("RESOURCE_EXHAUSTED: 45G exceeds 15G", 0)
    broken = aot.Program("note", Starved("INTERNAL: oh"), (), key=False)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        aot.compile_program(broken, mesh)
