"""The picture: its pixels, and names that Matplotlib would not take as they are."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from loomax.memory.report.groups import PALETTE
from loomax.memory.report.picture import draw
from tests.memory.report.programs import program_of


def pixels(path, color):
    """How many have this very colour."""
    image = matplotlib.image.imread(path)[..., :3]
    return int((np.abs(image - to_rgb(color)).max(-1) < 0.004).sum())


def test_areas_are_bytes_times_steps(small, tmp_path):
    path = draw(small, tmp_path / "small.png", "A title")
    # `a` and `c` are 3 MiB over 4 steps, `b` 1 MiB over 2. Outlines and the legend take some.
    ratio = pixels(path, PALETTE[0]) / pixels(path, PALETTE[1])
    assert ratio == pytest.approx(6, rel=0.08)
    assert pixels(path, PALETTE[2]) == 0
    assert [each.name for each in tmp_path.iterdir()] == ["small.png"]


def test_a_real_program(traced, tmp_path):
    path = draw(traced["step"][1], tmp_path / "real.png")
    assert pixels(path, PALETTE[0]) > 1000


def test_five_thousand_buffers_are_all_there(large, tmp_path):
    path = draw(large, tmp_path / "large.png")
    image = matplotlib.image.imread(path)[..., :3]
    height, width = image.shape[:2]
    # Stacked without gaps over random times, they touch most rows of the lower panel.
    panel = image[int(0.4 * height) : int(0.9 * height), int(0.1 * width) : int(0.7 * width)]
    assert ((panel < 0.99).any((1, 2))).mean() > 0.95


def test_names_are_not_typeset(nasty, tmp_path):
    path = draw(nasty, tmp_path / "odd.png", "$\\frac$ _\n line")
    assert path.stat().st_size > 10_000


def test_empty_buffers_are_no_temporaries(small, tmp_path):
    record = small.heap.records[2]
    empty = program_of([type(record)("b", 0, 0, 1)], {"b": 0}, {}, 0)
    assert draw(empty, tmp_path / "empty.png").is_file()


def test_the_form_is_a_png(small, tmp_path):
    with pytest.raises(ValueError, match=r"the picture is a PNG: name it x\.png"):
        draw(small, tmp_path / "x.jpg")
