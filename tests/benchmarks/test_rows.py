"""Rows: turns, ratios, tables, files, and the memory of compiled programs."""

import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks import _rows as rows
from benchmarks.rollout import sized, without_eyes
from loomax.agents.rl.presets import quickstart
from loomax.cli.bench import ROOT, benchmarks


def test_cases_take_turns_after_a_warm_up():
    order = []

    def case(name):
        def run():
            order.append(name)
            return float(len(order))

        return run

    found = rows.take_turns({"ours": case("ours"), "theirs": case("theirs")}, 2)
    assert order == ["ours", "theirs"] * 3
    assert found == {"ours": [3.0, 5.0], "theirs": [4.0, 6.0]}
    with pytest.raises(ValueError, match="n is 0"):
        rows.take_turns({}, 0)


@pytest.mark.parametrize(("better", "ratio"), [("higher", 3.0), ("lower", 1 / 3)])
def test_a_ratio_above_one_says_that_ours_is_better(better, ratio):
    samples = {"ours": [60.0, 9.0, 2.0], "theirs": [3.0, 1.0, 8.0]}
    ours, theirs = rows.compare("b", "m", "u", samples, "ours", ["theirs"], better)
    assert (ours.case, ours.value, ours.n, ours.baseline) == ("ours", 9.0, 3, "theirs")
    assert ours.ratio == pytest.approx(ratio)
    assert (theirs.case, theirs.value, theirs.ratio) == ("theirs", 3.0, None)


def test_a_baseline_of_zero_has_no_ratio():
    with pytest.raises(ValueError, match="b/theirs/m is 0"):
        rows.compare("b", "m", "u", {"ours": [1.0], "theirs": [0.0]}, "ours", ["theirs"])


def test_rows_are_printed_and_written_as_json_lines(tmp_path, capsys):
    made = rows.compare("b", "m", "u", {"ours": [4.0], "theirs": [2.0]}, "ours", ["theirs"])
    rows.finish(made, tmp_path / "rows.json")
    first, second = map(json.loads, (tmp_path / "rows.json").read_text().splitlines())
    assert list(first) == [
        "bench", "case", "metric", "value", "unit", "baseline",
        "ratio", "n", "device", "jax", "source",
    ]  # fmt: skip
    assert first["source"] == "measured"
    assert first["ratio"] == 2.0 and first["baseline"] == "theirs"
    assert first["device"] == "8 x cpu" and first["jax"] == jax.__version__
    assert second["ratio"] is None
    assert "b/ours/m" in capsys.readouterr().out


def test_a_program_compiles_once_and_knows_its_memory():
    traces = []

    def double(x):
        traces.append(x)
        return x * 2

    program, x = rows.Program(double), jnp.ones((16, 16))
    assert program.bytes == 0
    assert program(x).sum() == program(x + 1).sum() / 2 == 512
    assert len(traces) == 1
    assert program.bytes >= 2 * x.nbytes == 2 * rows.tree_bytes({"x": x})
    spent, out = rows.seconds(lambda: program(x))
    assert spent > 0 and out.shape == x.shape


def test_benchmarks_are_found_by_name():
    assert {"rollout", "rl-step"} <= set(benchmarks(ROOT))


@pytest.mark.parametrize("quick", [True, False])
def test_the_configuration_is_the_main_job_s(quick):
    config = sized(quick)
    config.validate(2)
    without_eyes(config).validate(2)
    assert config.policy == quickstart().policy and config.env == quickstart().env
