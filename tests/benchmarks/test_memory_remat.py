"""The remat benchmark: names of its rows, and that equal losses are asked for."""

import jax
import pytest

from benchmarks import _memory_remat as bench
from loomax.jaxlib_ext import fence

TINY = bench.Size(layers=3, width=8, length=16, batch=2, heads=2)


def test_rows_have_the_promised_names(monkeypatch):
    monkeypatch.setattr(bench, "QUICK", TINY)
    found = {
        (f"{row.bench}/{row.case}/{row.metric}", row.baseline): row for row in bench.rows(True)
    }
    for metric in ("temp_bytes", "cpu_s"):
        for peer in ("jax.checkpoint", "scan-checkpoint"):
            assert found[f"memory/remat-cpu/{metric}", peer].ratio > 0
    if fence.available():
        assert found["memory/remat-cpu/temp_bytes", "jax.checkpoint"].ratio > 1


def test_different_losses_are_an_error():
    made = bench.forms(TINY, key=jax.random.key(0))
    for form in made.values():
        form.cpu_s()
    bench.check_losses(made)
    made["no-remat"].losses[0] *= 1.001
    with pytest.raises(RuntimeError, match="no-remat has loss"):
        bench.check_losses(made)
