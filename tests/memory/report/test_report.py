"""The folder of a report."""

import json

import pytest

from loomax.memory.report.contents import FORMAT, contents
from loomax.memory.report.levers import Lever
from loomax.memory.report.report import report


def test_three_files(traced, tmp_path):
    program = traced["loop"][1]
    levers = (Lever("now", program.peak, 10.0), Lever("other", 5, 12.0, 0.5, True))
    folder = tmp_path / "runs" / "memory"
    paths = report(program, folder, "A loop", levers)
    assert [path.name for path in paths] == ["memory.png", "memory.html", "memory.json"]
    assert sorted(folder.iterdir()) == sorted(paths)
    data = json.loads(paths[2].read_text())
    assert data == json.loads(json.dumps(contents(program, "A loop", levers)))
    assert (data["format"], data["title"]) == (FORMAT, "A loop")
    assert data["levers"][1] == {
        "name": "other", "peak_bytes": 5, "flops": 12.0, "seconds": 0.5, "fits": True,
    }  # fmt: skip


def test_a_second_report_takes_the_place_of_the_first(bare, tmp_path):
    report(bare, tmp_path, "first")
    *_, numbers = report(bare, tmp_path, "second")
    assert json.loads(numbers.read_text())["title"] == "second"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_is_no_folder(small, tmp_path):
    (tmp_path / "memory").write_text("")
    with pytest.raises(ValueError, match="memory is a file: name a folder for the report"):
        report(small, tmp_path / "memory")
