"""Which line made what."""

import inspect

from loomax.memory.report.groups import NO_LINE, OTHER, PALETTE, group_by_line
from loomax.memory.report.peak import peak_of
from loomax.memory.report.sources import origins_of
from tests.memory.report import programs

MIB = 2**20


def groups_of(program):
    peak = peak_of(program.heap)
    return group_by_line(program.heap.records, origins_of(program), peak)


def test_layers_of_one_line_are_one_group(traced):
    lines, first = inspect.getsourcelines(programs.step)
    (at,) = [at for at, line in enumerate(lines) if "the kept line" in line]
    groups = {group.line: group for group in groups_of(traced["step"][1])}
    group = groups[f"tests/memory/report/programs.py:{first + at}"]
    kept = programs.BATCH * programs.DIM * 4
    assert sum(record.size == kept for record in group.held) >= programs.LAYERS - 1
    assert group.operation.startswith("jit(step)/")


def test_groups_share_all_bytes_of_the_peak(traced):
    for _, program in traced.values():
        groups = groups_of(program)
        assert sum(group.held_bytes for group in groups) == program.heap.lower_bound
        assert sum(len(group.buffers) for group in groups) == len(program.heap.records)
        order = [group.held_bytes for group in groups]
        assert order == sorted(order, reverse=True)


def test_a_loops_variable_has_the_line_of_what_it_took_the_place_of(small):
    origins = origins_of(small)
    assert origins["c"].line == "model.py:10"
    assert origins["c"].op_name == "jit(step)/jvp(attention)/dot_general"
    assert origins["c"].instruction == "c"
    assert origins["p"].line == ""


def test_order_and_area(small):
    first, second = groups_of(small)
    assert (first.line, first.held_bytes, first.area) == ("model.py:10", 3 * MIB, 12 * MIB)
    assert (second.line, second.held_bytes, second.area) == ("model.py:20", MIB, 2 * MIB)
    assert (first.color, second.color) == PALETTE[:2]


def test_lines_beyond_the_palette_share_a_color(large):
    colors = [group.color for group in groups_of(large)]
    assert colors.count(OTHER) == 30 - len(PALETTE)
    assert len(set(colors)) == len(PALETTE) + 1


def test_buffers_without_a_line_are_one_group(bare, small):
    assert groups_of(bare) == []
    nameless = programs.program_of(small.heap.records, small.offsets, {}, small.heap_bytes)
    (group,) = groups_of(nameless)
    assert (group.line, group.operation) == (NO_LINE, "")
