"""Entries against JAX's memory analysis, and files that are damaged or something else."""

import json
import re
from dataclasses import replace
from importlib.metadata import version

import pytest

from loomax.memory.report.budget import Entry, Held, measure
from loomax.memory.report.budget_file import FORMAT, read_budget, with_entries, write_budget


@pytest.mark.parametrize("name", ["step", "loop"])
def test_bytes_are_those_of_the_memory_analysis(traced, name):
    compiled, program = traced[name]
    stats, entry = compiled.memory_analysis(), measure(program, name, "cpu")
    assert entry.temp_bytes == stats.temp_size_in_bytes
    assert entry.argument_bytes == stats.argument_size_in_bytes
    assert entry.output_bytes == stats.output_size_in_bytes
    assert entry.alias_bytes == stats.alias_size_in_bytes
    assert entry.peak_bytes == program.peak
    assert entry.versions == {"jax": version("jax"), "jaxlib": version("jaxlib")}
    assert sum(row.bytes for row in entry.held) == program.heap.lower_bound


def test_held_is_by_file_and_operation(small):
    assert measure(small, "a", "cpu").held == (
        Held("model.py:10", "jvp(attention)/dot_general", 1, 3 * 2**20),
        Held("model.py:20", "jvp(mlp)/add", 1, 2**20),
    )


def test_the_hash_follows_the_program(traced, small):
    one, other = (measure(program, "a", "cpu") for _, program in traced.values())
    assert one.program_hash.startswith("buffers:") and one.program_hash != other.program_hash
    assert one.program_hash == measure(traced["step"][1], "b", "tpu").program_hash
    first, second = (measure(small, "a", "cpu", text).program_hash for text in ("x", "y"))
    assert first.startswith("lowered:") and first != second


def test_a_budget_is_read_back_as_it_was(traced, small, tmp_path):
    entries = [measure(program, name, "cpu") for name, (_, program) in traced.items()]
    budget = with_entries({}, [*entries, measure(small, "step", "tpu:v5e")])
    write_budget(budget, tmp_path / "budget.json")
    assert read_budget(tmp_path / "budget.json") == budget
    assert list(budget) == [("step", "cpu"), ("loop", "cpu"), ("step", "tpu:v5e")]
    assert [each.name for each in tmp_path.iterdir()] == ["budget.json"]


def test_an_entry_replaces_the_older_one(small):
    old = measure(small, "a", "cpu")
    new = replace(old, program_hash="other")
    budget = with_entries({old.key: old}, [new])
    assert budget == {("a", "cpu"): new}


ENTRY = dict(
    name="a", target="cpu", temp_bytes=5, argument_bytes=4, output_bytes=3, alias_bytes=2,
    peak_bytes=11,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name is empty"),
        ({"target": ""}, "target is empty"),
        ({"temp_bytes": -5}, "temp_bytes is -5: it must be 0 or more"),
        ({"alias_bytes": 4}, "alias_bytes is 4: arguments and outputs share at most 3"),
        ({"peak_bytes": 9}, "peak_bytes is 9: its parts sum to 10"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Entry(**{**ENTRY, **change})


def item(**change):
    return {**ENTRY, **change}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": ', r":1: not JSON: Expecting value"),
        ("[]", "no memory budget: its format is None"),
        ('{"records": []}', "no memory budget: its format is None, not 'loomax-memory-budget-1'"),
        ({"format": FORMAT}, 'no list "entries"'),
        ([3], "entry 1: 3 is not an object"),
        ([item(), item(target="tpu"), item()], "entry 3: a on cpu is there twice"),
        ([item(tmp_bytes=1)], "unknown field 'tmp_bytes': did you mean temp_bytes"),
        ([item(temp_bytes="5")], "temp_bytes is '5': it must be of type int"),
        ([item(temp_bytes=True)], "temp_bytes is True"),
        ([item(temp_bytes=50)], "entry 1: peak_bytes is 11: its parts sum to 55"),
        ([item(versions={"jax": 1})], "a version is a text"),
        ([item(held=[{"line": "x"}])], "entry 1: held 1: no 'operation'"),
        ([{"name": "a"}], "entry 1: no 'target'"),
    ],
)
def test_damaged_or_foreign_files_are_refused(tmp_path, content, message):
    path = tmp_path / "budget.json"
    if isinstance(content, list):
        content = {"format": FORMAT, "entries": content}
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(str(path)) + ".*" + message):
        read_budget(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot read .*none.json: No such file"):
        read_budget(tmp_path / "none.json")
