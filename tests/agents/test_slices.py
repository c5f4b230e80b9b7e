"""Training steps on slices that are not here."""

from dataclasses import replace

import pytest

from loomax.agents.pretrain.presets import debug as lm_debug
from loomax.agents.rl.presets import debug
from loomax.agents.slices import HEADER, SliceReport, slice_report
from loomax.runtime.collectives import Traffic

GIB = 2**30


def report(**values):
    traffic = {"all-reduce": Traffic(3, GIB // 2)}
    made = SliceReport("c", "update", "v5e:4x4", 16, "fsdp 16", GIB, 16 * GIB, 2.5e12, traffic)
    return replace(made, **values)


def test_the_line_says_whether_it_fits():
    line = report().line()
    assert "| 1.00 | 16, fits | 2.50 | 0.50: all-reduce 0.50 (3) |" in line
    assert line.count("|") == HEADER.partition("\n")[0].count("|")
    assert "DOES NOT FIT" in report(peak_bytes=17 * GIB).line()
    assert "| 0.00098 | 16, fits |" in report(peak_bytes=GIB // 1024).line()
    assert report(traffic=None).line().endswith("| 2.50 | unknown |")
    failed = report(error="too much").line()
    assert "| too much |" in failed and failed.count("|") == line.count("|")


@pytest.mark.tpu
def test_both_kinds_of_training_are_judged(tmp_path, monkeypatch):
    pytest.importorskip("libtpu", reason="needs the TPU compiler: pip install 'loomax[tpu-aot]'")
    for config, step in ((debug(), "update, 16 environments"), (lm_debug(), "8 x 32 tokens")):
        found = slice_report(config, "v5e:2x2", tmp_path)
        assert (found.step, found.devices, found.mesh, found.error) == (step, 4, "fsdp 4", "")
        assert 0 < found.peak_bytes < 16 * GIB and found.flops > 0
        assert found.traffic["all-reduce"].bytes > 0
        held = len(list(tmp_path.iterdir()))
        assert slice_report(config, "v5e:2x2", tmp_path) == found
        assert len(list(tmp_path.iterdir())) == held


@pytest.mark.tpu
def test_sizes_that_do_not_divide_are_told():
    pytest.importorskip("libtpu", reason="needs the TPU compiler: pip install 'loomax[tpu-aot]'")
    found = slice_report(debug(), "v5e:4x8")
    assert "must be a positive multiple of the 32 devices" in found.error
    assert found.error in found.line()
