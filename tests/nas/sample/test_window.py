"""Windows against architectures that are written out: members, counts, and equal chances."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from loomax.nas.sample.graph import Graph, build_graph, distinct_blocks
from loomax.nas.sample.window import below, draw, tabulate, ways_within
from loomax.nas.space.blocks import arch_blocks
from loomax.nas.space.count import count, macs, outputs, params
from loomax.nas.space.draw import generator
from loomax.nas.space.elasticvit import elasticvit_space
from loomax.nas.space.space import Space
from loomax.nas.space.vit import autoformer_space


def microseconds(block) -> float:
    """A made-up latency, in eighths, so that sums are exact in any order."""
    return (1 + hash_of(block) % 1000) / 8


def hash_of(block) -> int:
    return sum(ord(letter) * (place + 1) for place, letter in enumerate(repr(block)))


def price_of(space, arch, price) -> float:
    return sum(price(block) for _, block in arch_blocks(space, arch))


def middle(prices: list) -> tuple[float, float]:
    low, high = np.quantile(prices, [0.3, 0.7], method="nearest")
    return low.item(), high.item()


def test_every_path_is_one_architecture(space, every_arch):
    assert build_graph(space, macs).size == len(every_arch(space))


@pytest.mark.parametrize("price", [params, outputs])
def test_counts_are_exact_in_whole_units(space, every_arch, price):
    prices = [price_of(space, arch, price) for arch in every_arch(space)]
    table = tabulate(build_graph(space, price), 1, max(prices))
    for low, high in [(0, max(prices)), middle(prices), (min(prices), min(prices))]:
        expected = sum(low <= value <= high for value in prices)
        assert ways_within(table, low, high) == expected


def test_macs_of_the_graph_are_those_of_the_counter(space, every_arch):
    for arch in every_arch(space)[::20]:
        assert price_of(space, arch, macs) == count(space, arch).macs


@pytest.mark.parametrize(
    ("price", "units", "names"),
    [
        (params, 0, ("conv", "vit")),
        (macs, 40, ("layerwise", "hybrid")),
        (microseconds, 25, ("conv", "vit")),
    ],
)
def test_draws_are_uniform_over_the_window(spaces, every_arch, price, units, names):
    """Rounded prices too, coarse ones included: chi-square over all members of the window."""
    for name in names:
        space = spaces[name]
        archs = every_arch(space)
        prices = [price_of(space, arch, price) for arch in archs]
        low, high = middle(prices)
        inside = [arch for arch, value in zip(archs, prices, strict=True) if low <= value <= high]
        table = tabulate(build_graph(space, price), max(prices) / units if units else 1, high)
        rng = generator(7, len(name))
        drawn = Counter(draw(table, low, high, rng) for _ in range(5 * len(inside)))
        assert set(drawn) <= set(inside)
        result = stats.chisquare([drawn[arch] for arch in inside])
        assert result.pvalue > 1e-3, name


def test_a_table_of_prices_is_as_good_as_a_function(spaces, every_arch):
    space = spaces["hybrid"]
    blocks = distinct_blocks(space)
    assert set(blocks) == {b for arch in every_arch(space) for _, b in arch_blocks(space, arch)}
    table = {block: microseconds(block) for block in blocks}
    one, other = build_graph(space, table), build_graph(space, microseconds)
    assert all(np.array_equal(a, b) for a, b in zip(one.prices, other.prices, strict=True))


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_bad_price_is_refused(spaces, value):
    with pytest.raises(ValueError, match=r"the price of .*Conv\(.* is .*: give 0 or more"):
        build_graph(spaces["conv"], lambda block: value)


def test_a_missing_price_is_refused(spaces):
    with pytest.raises(ValueError, match=r"no price for Conv\(.*: give every distinct block"):
        build_graph(spaces["vit"], {block: 1.0 for block in distinct_blocks(spaces["conv"])})


@pytest.mark.parametrize("window", [(-1, 5), (6, 5), (0, 1001)])
def test_a_window_outside_the_table_is_refused(spaces, window):
    table = tabulate(build_graph(spaces["conv"], macs), 1, 1000)
    with pytest.raises(ValueError, match=r"give 0 <= low <= high <= 1000"):
        draw(table, *window, generator(0))


def test_an_empty_window_is_refused(spaces):
    table = tabulate(build_graph(spaces["conv"], macs), 1, 1000)
    with pytest.raises(ValueError, match="no architecture costs between 5 and 9: give a wider"):
        draw(table, 5, 9, generator(0))


@pytest.mark.parametrize(("unit", "limit"), [(0, 1), (1, 0), (-1.0, 1), (1, float("inf"))])
def test_bad_units_are_refused(spaces, unit, limit):
    with pytest.raises(ValueError, match="give a price above 0"):
        tabulate(build_graph(spaces["conv"], macs), unit, limit)


def chain(space: Space, length: int) -> Graph:
    """A graph of `length` nodes with four edges each, of prices 0 to 3, and nothing behind."""
    return Graph(
        space,
        prices=(np.zeros(0, np.int64), *[np.arange(4)] * length),
        nexts=(np.zeros(0, np.int64), *[np.full(4, node) for node in range(length)]),
        choices=((), *[({},) * 4] * length),
        paths=tuple(4**node for node in range(length + 1)),
    )


@pytest.mark.parametrize("length", [8, 40])
def test_counts_stay_exact_beyond_63_bits(spaces, length):
    """Sums of dice: the distribution is symmetric and its total 4^length."""
    table = tabulate(chain(spaces["conv"], length), 1, 3 * length)
    total = [ways_within(table, price, price) for price in range(3 * length + 1)]
    assert total == total[::-1] and sum(total) == 4**length
    assert total[1] == length and total[2] == length * (length + 1) // 2


@pytest.mark.parametrize("bound", [1, 7, 2**62, 3 * 2**70])
def test_whole_numbers_below_a_bound(bound):
    drawn = [below(generator(0, net), bound) for net in range(300)]
    assert 0 <= min(drawn) <= max(drawn) < bound
    assert bound < 7 or max(drawn) > 0.8 * bound


def test_a_large_layerwise_space_is_drawn_from():
    space = autoformer_space("base")
    graph = build_graph(space, params)
    table = tabulate(graph, 2e5, 55e6)
    arch = draw(table, 53e6, 54e6, generator(0))
    assert 53e6 <= count(space, arch).params <= 54e6


def test_elasticvit_windows():
    space = replace(elasticvit_space(), resolutions=(224,))
    table = tabulate(build_graph(space, macs), 1e6, 320e6)
    for net in range(10):
        assert 300e6 <= count(space, draw(table, 300e6, 320e6, generator(0, net))).macs <= 320e6
