"""`loomax nas table` and `loomax nas search`: from a supernet to files, and one line for errors."""

import json

import jax
import pytest

from loomax.cli.main import main
from loomax.models.elastic.deploy.files import load_network
from loomax.nas.oracle.predict import predictor_of
from loomax.nas.oracle.table import read_table
from loomax.nas.sample.graph import distinct_blocks
from loomax.nas.space.count import count
from loomax.nas.space.digits import digits_debug_space
from loomax.nas.space.supernet import supernet_config
from loomax.nas.train.choice import empty_memory_of
from loomax.nas.train.data.source import open_source
from loomax.nas.train.learner import Learner
from loomax.nas.train.presets import CONFIGS
from loomax.nas.train.report import write_config
from loomax.runtime.checkpoint import Checkpointer

TABLE = ["nas", "table", "--space", "digits-debug"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose supernet has not learned anything."""
    folder = tmp_path_factory.mktemp("runs") / "debug"
    config, space = CONFIGS["digits-debug"], digits_debug_space()
    state = jax.jit(Learner(config, supernet_config(space)).draw)(key=jax.random.key(0))
    memory = empty_memory_of(space, config.sampler)
    notes = {"images": open_source(config.data).fingerprint}
    Checkpointer(folder / "checkpoints").save(0, (state, memory), notes)
    write_config(folder / "config.json", config)
    return folder


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.json"
    assert main([*TABLE, "--device", "roofline-v5e", "--out", str(path)]) == 0
    return path


def line(capsys, *argv: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    (said,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("loomax")]
    return said


def test_a_table_is_written_and_described(tmp_path, capsys):
    table = tmp_path / "table.json"
    assert main([*TABLE, "--device", "roofline-v5e", "--out", str(table)]) == 0
    shown = capsys.readouterr().out
    space = digits_debug_space()
    blocks = len(distinct_blocks(space))
    assert f"{blocks} blocks of digits-debug on roofline-v5e (roofline, bfloat16, batch 1)" in shown
    assert len(predictor_of(space, read_table(table)).prices) == blocks


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--device v6", "unknown device 'v6': did you mean v6e?"),
        ("--device roofline-v5e --space digit", "unknown space 'digit': did you mean digits?"),
        ("--device roofline-v5e --classes -1", "--classes is -1: give at least 0"),
        ("--device cpu --batch 0", "batch is 0: give at least 1"),
        ("--device cpu --max-load 0", "--max-load is 0.0: give more than 0"),
        ("--devise cpu", "unknown field '--devise': did you mean --device?"),
    ],
)
def test_wrong_tables_are_one_line(capsys, options, said):
    assert said in line(capsys, "nas", "table", *options.split())


def search(run, table, out, *more: str) -> list[str]:
    argv = ["nas", "search", "--run", str(run), "--device", "roofline-v5e", "--table", str(table)]
    argv += ["--latency-ms", "1", "--candidates", "3", "--population", "2", "--out", str(out)]
    return [*argv, *more]


def check_files(out, shown: str) -> dict:
    for path in shown.split("\n\n")[-1].splitlines():
        assert str(out) in path
    result = json.loads((out / "result.json").read_text())
    assert result["candidates"] == 3 and len(result["front"]) >= 1
    network = load_network(out / "network" / "network.safetensors")
    assert network.spec.resolution == result["arch"]["resolution"] == 8
    return result


def test_a_search_ends_in_files(run, table, tmp_path, capsys, monkeypatch):
    def made_up(trained, measure):
        return lambda archs, split: [count(trained.space, arch).params / 1e4 for arch in archs]

    monkeypatch.setattr("loomax.nas.evolve.handover.supernet_scores", made_up)
    out, argv = tmp_path / "found", search(run, table, tmp_path / "found", "--random", "2")
    assert main(argv) == 0
    shown = capsys.readouterr().out
    assert "3 networks judged" in shown and "best of 2 random ones" in shown
    found = check_files(out, shown)
    # The most accurate one is the largest; its test accuracy is the real one.
    assert found["params"] / 1e4 == found["front"][-1]["search"]
    assert found["test"] * 36 == pytest.approx(round(found["test"] * 36))
    assert "is of a search with evolve" in line(capsys, *argv, "--seed", "1")


@pytest.mark.slow
def test_a_search_of_the_supernet_with_fine_tuning(run, table, tmp_path, capsys):
    out = tmp_path / "found"
    assert main(search(run, table, out, "--finetune", "1", "--measure", "accuracy")) == 0
    check_files(out, capsys.readouterr().out)
    rows = [json.loads(row) for row in (out / "search.jsonl").read_text().splitlines()[1:]]
    # Two thirds of 36 images, one third, and 36 others.
    images = {"search": 24, "validation": 12, "test": 36}
    for row in rows:
        right = row["score"] * images[row["split"]]
        assert right == pytest.approx(round(right))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--latency-ms 1 --device v7", "unknown device 'v7'"),
        ("--latency-ms 1 --device roofline-v6e", "'device' 'roofline-v5e', not 'roofline-v6e'"),
        ("--latency-ms 1 --batch 4", "with batch 1, not 4"),
        ("--latency-ms 1e-9", "no network takes 1e-09 ms or less: the fastest one of the space"),
        ("--latency-ms 1 --random -1", "--random is -1: give at least 0"),
        ("--latency-ms 1 --candidates 0", "candidates is 0: give at least 1"),
        ("--device v5e", "latency-ms"),
    ],
)
def test_wrong_searches_are_one_line(run, table, capsys, options, said):
    argv = ["nas", "search", "--run", str(run), "--device", "roofline-v5e", "--table", str(table)]
    assert said.replace("'device' ", "device ") in line(capsys, *argv, *options.split())


def test_tables_of_another_space_or_missing_are_one_line(run, tmp_path, capsys):
    argv = ["nas", "search", "--run", str(run), "--latency-ms", "1"]
    path = tmp_path / "other.json"
    main(
        [
            "nas",
            "table",
            "--device",
            "roofline-v5e",
            "--classes",
            "7",
            *TABLE[2:],
            "--out",
            str(path),
        ]
    )
    wrong = line(capsys, *argv, "--device", "roofline-v5e", "--table", str(path))
    assert "is a table of another space" in wrong
    missing = line(capsys, *argv, "--device", "cpu", "--table", str(tmp_path / "none.json"))
    assert "make it with `loomax nas table --space digits-debug --device cpu --out" in missing
    assert "unknown run" in line(
        capsys, *argv[:2], "--run", "debag", *argv[4:], "--runs", str(run.parent)
    )
