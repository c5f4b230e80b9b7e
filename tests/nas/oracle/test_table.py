"""Tables in files: what comes back, what is refused, and where a stopped one goes on."""

import json
from dataclasses import replace

import pytest

from loomax.nas.oracle.build import build_table, networks
from loomax.nas.oracle.predict import judge, predictor_of
from loomax.nas.oracle.reading import Oracle, Reading
from loomax.nas.oracle.table import (
    check_origin,
    origin_of,
    read_table,
    space_hash,
    write_table,
)
from loomax.nas.sample.graph import build_graph, distinct_blocks
from loomax.nas.space.blocks import arch_blocks
from loomax.nas.space.count import macs
from loomax.nas.space.digits import digits_debug_space

FUSION, START = 0.75, 3e-6


def seconds_of(block) -> float:
    return 1e-9 * (1 + macs(block))


class Meter:
    """An oracle whose networks are faster than their blocks; it may break after some blocks."""

    def __init__(self, breaks_after: float = float("inf")):
        self.asked, self._breaks_after = [], breaks_after
        self.oracle = Oracle("cpu", "measured", "float32", 1, "clock 1", self._measure)

    def _measure(self, chains):
        for chain in chains:
            if len(self.asked) >= self._breaks_after:
                raise ValueError("the machine is busy")
            self.asked.append(chain)
            blocks = sum(seconds_of(block) for block in chain)
            yield Reading(blocks if len(chain) == 1 else FUSION * blocks + START, 0.01)


@pytest.fixture
def small(spaces):
    return spaces["hybrid"]


def test_a_table_comes_back_and_predicts(small, tmp_path, every_arch):
    path = tmp_path / "t.json"
    table = build_table(small, "small", Meter().oracle, path, 4, 6)
    assert read_table(path) == table
    assert set(table.readings) == set(distinct_blocks(small))
    assert [network.held_out for network in table.networks] == [False] * 4 + [True] * 6
    predict = predictor_of(small, table)
    assert predict.scale == pytest.approx(FUSION) and predict.constant == pytest.approx(START)
    for arch in every_arch(small)[::50]:
        blocks = [block for _, block in arch_blocks(small, arch)]
        expected = FUSION * sum(seconds_of(block) for block in blocks) + START
        assert predict(arch) == pytest.approx(expected, rel=1e-9)
    found = judge(small, table)
    assert (found.count, found.within, found.spearman) == (6, 1.0, pytest.approx(1.0))


def test_a_stopped_table_goes_on_where_it_was(small, tmp_path):
    path = tmp_path / "t.json"
    total = len(distinct_blocks(small))
    with pytest.raises(ValueError, match="busy"):
        build_table(small, "small", Meter(breaks_after=21).oracle, path, 2, 2)
    assert len(read_table(path).readings) == 21
    with pytest.raises(ValueError, match=f"lacks {total - 21} blocks of the space"):
        predictor_of(small, read_table(path))
    with pytest.raises(ValueError, match="busy"):
        build_table(small, "small", Meter(breaks_after=total - 21 + 3).oracle, path, 2, 2)
    assert len(read_table(path).networks) == 3
    rest = Meter()
    table = build_table(small, "small", rest.oracle, path, 2, 2)
    assert len(rest.asked) == 1
    assert table == build_table(small, "small", Meter(breaks_after=0).oracle, path, 2, 2)
    assert table == build_table(small, "small", Meter().oracle, tmp_path / "whole.json", 2, 2)
    more = Meter()
    build_table(small, "small", more.oracle, path, 2, 5)
    assert len(more.asked) == 3


def test_networks_that_judge_are_not_those_that_fit(small):
    found = networks(small, 5, 7, seed=3)
    assert list(found.values()) == [False] * 5 + [True] * 7
    # A small space has no more of them.
    few = digits_debug_space()
    size = build_graph(few, macs).size
    assert list(networks(few, 2, 50, 0).values()) == [False] * 2 + [True] * (size - 2)


def test_a_bound_has_nothing_to_be_fitted_to(small, tmp_path):
    oracle = replace(Meter().oracle, source="roofline")
    table = build_table(small, "small", oracle, tmp_path / "t.json")
    assert table.networks == () and judge(small, table) is None
    assert predictor_of(small, table).scale == 1


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"device": "v5e"}, "a table with device 'v5e', not 'cpu'"),
        ({"batch": 8}, "a table with batch 8, not 1"),
        ({"version": "clock 2"}, "a table with version 'clock 2', not 'clock 1'"),
        ({"space_hash": "0"}, "a table of another space, 'small': make one of 'small' with"),
    ],
)
def test_tables_of_something_else_are_refused(small, change, line):
    origin = origin_of(Meter().oracle, small, "small")
    check_origin("f", replace(origin, space="renamed"), origin)
    with pytest.raises(ValueError, match=f"f is {line}"):
        check_origin("f", replace(origin, **change), origin)


def test_the_hash_is_of_all_that_may_be_chosen(spaces):
    assert len({space_hash(space) for space in spaces.values()}) == len(spaces)
    small = spaces["conv"]
    assert space_hash(replace(small, growing=False)) != space_hash(small)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "cannot read the latency table .*: No such file"),
        ("{", "cannot read the latency table"),
        ("[]", "is not a latency table: give what `loomax nas table` wrote"),
        ('{"format": "loomax latency table", "version": 7}', "of version 7, and this is version 1"),
        ('{"format": "loomax latency table", "version": 1}', "is a damaged latency table"),
    ],
)
def test_wrong_files_are_one_line(tmp_path, text, line):
    path = tmp_path / "t.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=line):
        read_table(path)


def test_files_are_json_that_names_its_version(small, tmp_path):
    path = tmp_path / "t.json"
    write_table(path, build_table(small, "small", Meter().oracle, path, 0, 2))
    read = json.loads(path.read_text())
    assert read["version"] == 1 and read["origin"]["device"] == "cpu"
    assert {"kind", "seconds", "noise"} < set(read["blocks"][0])
