"""Settings that nothing can compute with, places that cannot be written, files that are no JSON."""

import math
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import pytest

from loomax.runtime.axes import MeshConfig
from loomax.runtime.bounds import MOST_FLOAT, check_settings
from loomax.runtime.config import merge
from loomax.runtime.files import atomic_write, read_json
from loomax.runtime.options import Bound, OutFile, marks_of
from loomax.runtime.places import check_file, check_folder, check_source


@dataclass(frozen=True)
class Part:
    rate: float = 0.1
    split_seed: int = 0


@dataclass(frozen=True)
class Whole:
    name: str = "x"
    seed: int = 0
    size: int = 1
    flag: bool = True
    rates: tuple[float, ...] = (1.0,)
    part: Part = Part()
    parts: tuple[Part, ...] = ()
    nothing: float | None = None
    many: dict = field(default_factory=dict)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Whole(seed=-1), "seed is -1: give 0 to 4294967295"),
        (Whole(seed=2**32), "seed is 4294967296: give 0 to 4294967295"),
        (Whole(part=Part(split_seed=2**64)), "part.split_seed is 18446744073709551616: give 0"),
        (Whole(size=2**63), "size is 9223372036854775808: give -9223372036854775807 to"),
        (Whole(size=10**5000), "size is a number of 5001 digits"),
        (Whole(rates=(1.0, math.nan)), "rates.1 is nan: give a finite number"),
        (Whole(parts=(Part(), Part(rate=-math.inf))), "parts.1.rate is -inf: give a finite"),
        (Whole(nothing=1e39), "nothing is 1e[+]39: give a finite number, of at most 3.4e[+]38"),
        (Whole(name="a\0b"), "leave the NUL character out"),
    ],
)
def test_what_cannot_be_computed_with(config, message):
    with pytest.raises(ValueError, match=message):
        check_settings(config)


def test_what_can():
    check_settings(Whole(seed=2**32 - 1, size=-(2**63) + 1, nothing=MOST_FLOAT))
    assert MOST_FLOAT == float(np.finfo(np.float32).max)


def test_names_are_those_of_the_command_line():
    with pytest.raises(ValueError, match="^--part.split-seed is -3: give 0 to"):
        check_settings(Whole(part=Part(split_seed=-3)), "--{}")


def test_places(tmp_path):
    (tmp_path / "file").write_text("x")
    check_file(tmp_path / "new" / "folder" / "a.json", "--json")
    check_file(tmp_path / "file", "--json")
    check_folder(tmp_path / "new" / "runs", "--runs")
    check_source(tmp_path / "file", "--data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
    wrong = [
        (check_file, "", "is empty"),
        (check_file, tmp_path, "a folder: give the path of a file"),
        (check_file, tmp_path / "file" / "x", "cannot write into|not a directory"),
        (check_file, "/proc/x", "cannot write into /proc"),
        (check_file, "/dev/full", "no regular file"),
        (check_file, tmp_path / ("x" * 300), "too long"),
        (check_folder, tmp_path / "file", "which is a file: give a folder"),
        (check_folder, tmp_path / "file" / "x" / "y", "cannot write into|not a directory"),
        (check_source, tmp_path / "gone", "there is no such file or folder"),
        (check_source, "/dev/null", "give a file or a folder"),
    ]
    for check, path, message in wrong:
        with pytest.raises(ValueError, match=f"^--x.*({message})"):
            check(path, "--x")


def test_marks_are_found_inside_of_unions_and_tuples():
    assert marks_of(OutFile | None) == marks_of(OutFile) != []
    assert marks_of(tuple[Annotated[int, Bound(1)], ...]) == [Bound(1)]
    with pytest.raises(ValueError, match="^--x is 0: give more than 0 and at most 1"):
        Bound(0, 1, above=True).check(0, "--x")
    with pytest.raises(ValueError, match="give at least 0"):
        Bound(0).check(math.nan, "--x")


def test_json_files_are_named(tmp_path):
    path = tmp_path / "a.json"
    for raw in (b"", b'{"a" 1}', b"\xff", b"[" * 200_000):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=r"a.json is no JSON: ."):
            read_json(path)
    path.write_bytes(b"[1, 2]")
    assert read_json(path) == [1, 2]
    with pytest.raises(ValueError, match="a.json is longer than 5 bytes"):
        read_json(path, 5)
    with pytest.raises(ValueError, match="cannot read .*none.json: No such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(ValueError, match="'.' is no path of a file"):
        atomic_write("", "x")


def test_values_of_another_kind_are_not_merged():
    assert merge(Whole(), {"size": 3, "part": {"rate": 1}, "nothing": 2}).part.rate == 1
    for held in ({"size": "x"}, {"part": 3}, {"name": None}, {"flag": 1}, {"rates": 1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(held))} is "):
            merge(Whole(), held)


@pytest.mark.parametrize("mesh", [MeshConfig(), MeshConfig(2, 4, -1), MeshConfig(tensor=8)])
def test_the_least_mesh(mesh):
    assert mesh.least == np.prod([max(n, 1) for n in (mesh.replica, mesh.fsdp, mesh.tensor)])
    mesh.sizes(mesh.least)
