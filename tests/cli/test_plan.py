"""loomax plan pack: the file that it writes, and one line for what is wrong."""

import json
import subprocess
import sys

import pytest

from loomax.cli import main
from loomax.memory.lifetimes.csv_file import read_csv
from loomax.memory.planner.plan import check_plan

# Seven bytes are live at every time, and no plan fits into seven.
SPANS = [(0, 1, 3), (0, 1, 1), (0, 2, 3), (1, 3, 2), (2, 4, 1), (3, 4, 1), (1, 5, 2)]
SPANS += [(2, 5, 2), (4, 5, 2), (3, 6, 1), (5, 6, 6)]


@pytest.fixture
def file(tmp_path):
    rows = [f"b{i},{lower},{upper},{size}" for i, (lower, upper, size) in enumerate(SPANS)]
    path = tmp_path / "spans.csv"
    path.write_text("\n".join(["id,lower,upper,size", *rows]) + "\n")
    return path


def error(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main.main(argv)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_pack_writes_a_valid_plan(file, tmp_path, capsys):
    out = tmp_path / "plan.json"
    assert main.main(["plan", "pack", str(file), "--capacity", "8", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert set(result) == {"offsets", "peak", "lower_bound", "seconds"}
    check_plan(read_csv(file), result["offsets"], 8)
    assert (result["peak"], result["lower_bound"]) == (8, 7)
    shown = capsys.readouterr().out
    assert "11 buffers" in shown and "(100.00% used)" in shown


def test_without_a_capacity_the_least_peak_is_proved(file, tmp_path, capsys):
    main.main(["plan", "pack", str(file), "--json", str(tmp_path / "o")])
    result = json.loads((tmp_path / "o").read_text())
    assert (result["peak"], result["lower_bound"]) == (8, 8)
    assert "optimal" in capsys.readouterr().out


def test_traces_may_be_json_and_planned_by_groups(tmp_path):
    trace = {"records": [{"id": "a", "size": 3, "birth": 0, "death": 2, "phase": "f -> b"}]}
    (tmp_path / "t.json").write_text(json.dumps(trace))
    out = tmp_path / "o"
    argv = ["plan", "pack", str(tmp_path / "t.json"), "--strategy", "groups", "--json", str(out)]
    assert main.main(argv) == 0
    assert json.loads(out.read_text())["offsets"] == {"a": 0}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--capacity 6", "loomax plan pack: capacity is 6: 7 bytes are live at once"),
        ("--capacity 7", "loomax plan pack: no plan fits into --capacity 7: give 8 or more"),
        ("--capacity -7", "loomax plan pack: capacity is -7: give 0 or more"),
        ("--capacity many", "loomax plan pack: "),
        ("--time-limit 0", "loomax plan pack: --time-limit is 0.0: give more than 0"),
        ("--strategy group", "loomax plan pack: unknown strategy 'group': did you mean groups?"),
        ("--capasity 7", "loomax plan pack: unknown field '--capasity': did you mean --capacity?"),
    ],
)
def test_wrong_options_are_one_line(file, capsys, options, line):
    assert error(capsys, "plan", "pack", str(file), *options.split()).startswith(line)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ("", "bad.csv: empty"),
        ("id,lower,upper\n", "bad.csv:1: no column 'size'"),
        ("id,lower,upper,size\na,5,4,1\n", "bad.csv:2: buffer 'a': freed at 4, allocated at 5"),
        ("id,lower,upper,size\na,0,1,-1\n", "bad.csv:2: buffer 'a': size is -1"),
        ("id,lower,upper,size\na,0,1,x\n", "bad.csv:2: buffer 'a': size is 'x'"),
    ],
)
def test_wrong_files_are_one_line(tmp_path, capsys, monkeypatch, rows, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text(rows)
    assert error(capsys, "plan", "pack", "bad.csv").startswith(f"loomax plan pack: {line}")


def test_wrong_verbs_and_missing_files_are_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "cannot read none.csv: No such file" in error(capsys, "plan", "pack", "none.csv")
    assert "unknown plan 'pak': did you mean pack?" in error(capsys, "plan", "pak")
    assert error(capsys, "plan", "pack").startswith("loomax plan pack: ")
    with pytest.raises(SystemExit) as stop:
        main.main(["plan", "--help"])
    assert stop.value.code == 0


@pytest.mark.multiprocess
def test_packing_imports_no_jax(file):
    code = f"""
import sys
from loomax.cli.main import main
main(["plan", "pack", {str(file)!r}])
assert "jax" not in sys.modules, "jax was imported"
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
