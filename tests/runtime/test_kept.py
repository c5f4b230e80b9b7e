"""Kept results: whole or made again."""

from dataclasses import dataclass

import pytest

from loomax.runtime.kept import recall, remember


@dataclass(frozen=True)
class Reading:
    seconds: float
    name: str = ""


def test_what_is_kept_comes_back(tmp_path):
    path = tmp_path / "new" / "reading.json"
    assert recall(path, Reading) is None
    remember(path, Reading(0.1, "é"))
    assert recall(path, Reading) == Reading(0.1, "é")


@pytest.mark.parametrize("text", ["", '{"seconds": 1', "[]", "3", '{"hours": 1}', "{}"])
def test_what_is_not_whole_or_of_another_version_is_not_there(tmp_path, text):
    path = tmp_path / "reading.json"
    path.write_text(text)
    assert recall(path, Reading) is None


def test_without_a_place_nothing_is_kept(tmp_path):
    remember(None, Reading(1.0))
    assert recall(None, Reading) is None
    (tmp_path / "file").write_text("")
    remember(tmp_path / "file" / "reading.json", Reading(1.0))
