"""The benchmark of XLA's own instances: enough of them, rows, and a program from end to end."""

from types import SimpleNamespace

import jax
import pytest

from benchmarks import _memory_xla as bench
from benchmarks._memory_remat import Size
from benchmarks._memory_xla_programs import (
    MEMORY_FIRST,
    MIXERS,
    Instance,
    cpu_instances,
    described_instances,
    layers_step,
    one_device,
)
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace

TINY = Size(layers=2, width=8, length=16, batch=2, heads=2)


def test_there_are_thirty_programs_of_every_family_and_mixer():
    found = list(cpu_instances())
    names = [instance.name for instance in found]
    assert len(set(names)) == len(names) >= 30
    families = ("layers-", "transformer-", "vla-sft", "vla-update", "mlp-iteration", "siglip")
    serving = ("yoco-prefill", "yoco-decode", "yoco-needle")
    for family in (*families, *serving, *(f"yoco-{mixer}-" for mixer in MIXERS)):
        assert any(name.startswith(family) for name in names), family
    assert any(instance.options == MEMORY_FIRST for instance in found[: bench.QUICK])
    assert len(list(described_instances())) >= 3


# A and C can share bytes below B, or B lies below both: 4 + 2 bytes at once are the least.
HEAP = Trace((Lifetime("a", 4, 0, 2), Lifetime("b", 2, 1, 4), Lifetime("c", 4, 2, 4)))


def test_xlas_peak_and_ours_are_over_the_same_bound():
    program = SimpleNamespace(heap=HEAP, offsets={"a": 0, "b": 4, "c": 6}, heap_peak=10)
    found = bench.packed(Instance("x", lambda mesh: None), program, "here", "measured")
    assert (found.buffers, found.xla, found.ours) == (3, 10 / 6, 1.0)
    wrong = SimpleNamespace(heap=HEAP, offsets={"a": 0, "b": 3, "c": 6}, heap_peak=10)
    with pytest.raises(ValueError, match="overlap"):
        bench.packed(Instance("x", lambda mesh: None), wrong, "here", "measured")


def test_an_empty_heap_is_packed_perfectly():
    program = SimpleNamespace(heap=Trace(()), offsets={}, heap_peak=0)
    found = bench.packed(Instance("x", lambda mesh: None), program, "here", "measured")
    assert (found.xla, found.ours) == (1.0, 1.0)


def test_the_worst_row_holds_the_worst_of_each_number():
    found = [
        bench.Packed("one", 5, 1.05, 1.0, 0.2, "1 x cpu", "measured"),
        bench.Packed("two", 5, 1.02, 1.01, 0.1, "1 x v5e", "tpu-compiler"),
    ]
    rows = {f"{row.bench}/{row.case}/{row.metric}": row for row in bench.rows_of(found)}
    assert list(rows) == [
        "memory/xla-one/peak_over_lower_bound",
        "memory/xla-two/peak_over_lower_bound",
        "memory/xla-worst/peak_over_lower_bound",
        "memory/xla-worst/seconds",
    ]
    two = rows["memory/xla-two/peak_over_lower_bound"]
    assert (two.value, two.baseline, two.device, two.source) == (
        1.01,
        "xla",
        "1 x v5e",
        "tpu-compiler",
    )
    assert two.ratio == pytest.approx(1.02 / 1.01)
    assert rows["memory/xla-worst/peak_over_lower_bound"].value == 1.01
    assert rows["memory/xla-worst/seconds"].value == 0.2


def test_the_verdict_names_what_missed():
    good = bench.Packed("good", 5, 1.05, 1.0005, 0.2, "cpu", "measured")
    assert "all plans within 1.001" in bench.verdict([good])
    high = bench.Packed("high", 5, 1.05, 1.0042, 0.2, "cpu", "measured")
    late = bench.Packed("late", 5, 1.0, 1.0, 1.31, "cpu", "measured")
    said = bench.verdict([good, high, late])
    assert "3 programs, 2 of which" in said
    assert said.endswith("missed by: high at 1.0042, late after 1.31 s")


def test_a_program_is_compiled_and_packed(monkeypatch):
    instance = Instance("tiny", lambda mesh: layers_step("checkpoint", mesh, TINY), MEMORY_FIRST)
    here = one_device(jax.devices("cpu"))
    monkeypatch.setattr(bench, "cases", lambda quick: [(instance, here, "cpu", "measured")])
    (found,) = bench.measured(quick=True)
    # Two layers of two products each, at least, with their gradients.
    assert found.buffers > 8 and found.xla >= found.ours >= 1
