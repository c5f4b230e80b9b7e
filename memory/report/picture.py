"""A program's memory as a picture. Imports no JAX."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import blocks, live_bytes
from loomax.memory.lifetimes.xla_program import XlaProgram
from loomax.memory.report.boxes import split
from loomax.memory.report.groups import OTHER, Group, group_by_line
from loomax.memory.report.legend import INK, draw_legend
from loomax.memory.report.peak import Peak, peak_of
from loomax.memory.report.sources import origins_of
from loomax.memory.report.summary import head
from loomax.memory.report.text import bytes_text
from loomax.runtime.plots import save_figure

SIZE = (14.0, 9.0)
PIXELS = (1130, 640)  # of the lower panel, about
OUTLINE = 1.2
LONGEST = 120  # characters of a title
CLOSE = 0.01  # two levels nearer than this share of the heap get one label


def draw(program: XlaProgram, path: str | Path, title: str = "") -> Path:
    """Draws the buffers of a program's heap: steps across, offsets up, source lines as colours.

    Buffers that are too small to be seen blend into a shade. The panel above has the bytes that
    are live; buffers that live when most are have a dark outline.

    Args:
        path: of the PNG.
        title: a line above.

    Raises:
        ValueError: the path does not end in ".png".
    """
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"{path}: the picture is a PNG: name it {path.stem}.png")
    peak = peak_of(program.heap)
    groups = group_by_line(program.heap.records, origins_of(program), peak)
    figure, axes = plt.subplots(
        2,
        2,
        figsize=SIZE,
        constrained_layout=True,
        gridspec_kw={"height_ratios": (1, 3.2), "width_ratios": (3.3, 1)},
    )
    (above, corner), (below, beside) = axes
    lines = [*([" ".join(title.split())[:LONGEST]] if title else []), *head(program, peak)]
    above.set_title("\n".join(lines), loc="left", fontsize=10, parse_math=False)
    corner.axis("off")
    beside.axis("off")
    if peak.live:
        _draw_live(above, program, peak)
        _draw_boxes(below, program, groups, peak)
        draw_legend(beside, groups, peak)
    else:
        below.text(0.5, 0.5, "no temporaries", transform=below.transAxes, ha="center")
    _style(above, "bytes live")
    _style(below, "offset in the heap")
    below.set_xlabel("step of XLA's allocator (a loop's body counts once)")
    return save_figure(figure, path)


def _style(axis: Axes, label: str) -> None:
    """Ticks at whole steps and at powers of two bytes."""
    axis.set_ylabel(label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    apart = max(axis.get_ylim()[1] / 5, 1)
    axis.yaxis.set_major_locator(MultipleLocator(2 ** int(np.ceil(np.log2(apart)))))
    axis.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: bytes_text(value).replace(".0 ", " "))
    )
    axis.spines[["top", "right"]].set_visible(False)


def _draw_live(axis: Axes, program: XlaProgram, peak: Peak) -> None:
    curve = live_bytes(blocks(program.heap.records))
    times, live = [time for time, _ in curve], [size for _, size in curve]
    axis.fill_between(times, live, step="post", color=OTHER, alpha=0.5, lw=0)
    axis.step(times, live, where="post", color=INK, lw=max(0.3, min(1.0, 800 / len(times))))
    _mark_peak(axis, peak)
    axis.plot((peak.time + peak.until) / 2, peak.live, "o", color=INK, ms=5)
    heap, bound = program.heap_peak, program.heap.lower_bound
    if heap - bound < CLOSE * heap:
        _level(axis, heap, f"heap {bytes_text(heap)}, lower bound {bytes_text(bound)}", above=True)
    else:
        _level(axis, heap, f"heap {bytes_text(heap)}", above=True)
        _level(axis, bound, f"lower bound {bytes_text(bound)}", above=False)
    axis.set_xlim(0, times[-1])
    axis.set_ylim(0, 1.25 * heap)


def _level(axis: Axes, height: int, text: str, above: bool) -> None:
    """A line at `height` with its name."""
    axis.axhline(height, color=INK, ls="--", lw=0.8)
    axis.annotate(
        text,
        (1, height),
        xycoords=("axes fraction", "data"),
        xytext=(-3, 3 if above else -3),
        textcoords="offset points",
        ha="right",
        va="bottom" if above else "top",
        fontsize=8,
    )


def _mark_peak(axis: Axes, peak: Peak) -> None:
    axis.axvline((peak.time + peak.until) / 2, color=INK, ls=":", lw=1)


def _draw_boxes(axis: Axes, program: XlaProgram, groups: Sequence[Group], peak: Peak) -> None:
    records, height = program.heap.records, program.heap_peak
    end = max(record.death for record in records)
    colors = {record.id: to_rgb(group.color) for group in groups for record in group.buffers}
    boxes = split(records, program.offsets, colors, (end, height), PIXELS)
    axis.imshow(
        boxes.shade,
        extent=(0, end, 0, height),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )
    held = {record.id for record in peak.held}
    # Those with an outline come last, above the edges of their neighbours.
    seen = sorted(boxes.seen, key=lambda record: record.id in held)
    axis.add_collection(
        PolyCollection(
            [_corners(record, program.offsets[record.id]) for record in seen],
            facecolors=[colors[record.id] for record in seen],
            edgecolors=[INK if record.id in held else "white" for record in seen],
            linewidths=[
                min(OUTLINE if record.id in held else 0.3, _side(record, end, height) / 8)
                for record in seen
            ],
        )
    )
    _mark_peak(axis, peak)
    axis.set_xlim(0, end)
    axis.set_ylim(0, 1.01 * height)


def _corners(record: Lifetime, low: int) -> list[tuple[int, int]]:
    high, left, right = low + record.size, record.birth, record.death
    return [(left, low), (right, low), (right, high), (left, high)]


def _side(record: Lifetime, end: int, height: int) -> float:
    """Pixels of the shorter side: a thick line around a thin box would hide its colour."""
    across = (record.death - record.birth) / end * PIXELS[0]
    return min(across, record.size / height * PIXELS[1])
