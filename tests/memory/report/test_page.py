"""The page: well-formed, self-contained, and the same numbers as the program's."""

import json
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from loomax.memory.report.contents import contents
from loomax.memory.report.levers import Lever
from loomax.memory.report.page import HERE, write_html
from tests.memory.report.programs import NASTY

VOID = {"meta", "input"}


class Page(HTMLParser):
    """Tags that are open, the text of each script, and all text of the page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.scripts, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *each) for each in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.text += data

    @property
    def data(self):
        return json.loads(self.scripts[0])


def page_of(program, folder, **more):
    return Page(write_html(program, folder / "memory.html", **more).read_text())


@pytest.mark.parametrize("name", ["step", "loop"])
def test_the_data_are_the_programs(traced, tmp_path, name):
    program = traced[name][1]
    data = page_of(program, tmp_path).data
    assert data == json.loads(json.dumps(contents(program)))
    columns = data["buffers"]
    for at, record in enumerate(program.heap.records):
        assert columns["name"][at] == record.id
        assert columns["bytes"][at] == record.size
        assert columns["offset"][at] == program.offsets[record.id]
        assert (columns["birth"][at], columns["death"][at]) == (record.birth, record.death)
    assert data["peak_bytes"] == program.peak
    assert data["lower_bound"] == max(live for _, live in data["live"])
    assert sum(each["held_bytes"] for each in data["lines"]) == data["fullest"]["live_bytes"]
    whole_call = sum(each["bytes"] for each in data["residents"])
    assert data["heap_bytes"] + whole_call == program.peak


def test_references_lead_to_the_right_line_and_operation(small, tmp_path):
    data = page_of(small, tmp_path).data
    columns = data["buffers"]
    lines = [data["lines"][at]["line"] for at in columns["line"]]
    assert lines == ["model.py:10", "model.py:10", "model.py:20"]
    operations = [data["operations"][at] for at in columns["operation"]]
    assert operations == ["jvp(attention)/dot_general"] * 2 + ["jvp(mlp)/add"]
    assert columns["held"] == [1, 0, 1]


def test_tables_and_levers(small, tmp_path):
    levers = (Lever("as it is", small.peak), Lever("<remat>", 5 * 2**20, fits=True))
    page = page_of(small, tmp_path, title="A & B", levers=levers)
    for text in ("A & B", "model.py:10", "3.0 MiB", "75.0%", "1 donated (10.0 MiB)", "<remat>"):
        assert text in page.text
    assert "-11.0 MiB" in page.text
    assert [each["name"] for each in page.data["levers"]] == ["as it is", "<remat>"]
    assert "What each form gives" not in page_of(small, tmp_path).text


def test_names_cannot_become_tags_or_scripts(nasty, tmp_path):
    levers = (Lever(NASTY, 1),)
    page = page_of(nasty, tmp_path, title=NASTY, levers=levers)
    assert len(page.scripts) == 2
    assert page.scripts[1].strip() == (HERE / "page.js").read_text().strip()
    assert NASTY in page.data["operations"] and page.data["title"] == NASTY
    assert page.text.count(NASTY) >= 5
    assert not [tag for tag, *_ in page.attributes if tag in ("b", "img")]


def test_nothing_is_loaded_from_elsewhere(traced, tmp_path):
    page = page_of(traced["step"][1], tmp_path)
    assert not [each for each in page.attributes if each[1] in ("src", "href", "srcset")]
    text = (tmp_path / "memory.html").read_text()
    assert "://" not in text and "@import" not in text and "url(" not in text
    assert "default-src 'none'" in text


def test_a_program_without_temporaries(bare, tmp_path):
    page = page_of(bare, tmp_path)
    assert page.data["buffers"]["name"] == [] and "1 parameters (4 B)" in page.text


def test_the_page_of_a_large_program_is_small(large, tmp_path):
    path = write_html(large, tmp_path / "memory.html")
    assert path.stat().st_size < 2**20
    assert len(Page(path.read_text()).data["buffers"]["name"]) == 5000


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to check the script with")
def test_the_script_is_valid():
    run = subprocess.run(["node", "--check", HERE / "page.js"], capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr.decode()
