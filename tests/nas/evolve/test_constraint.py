"""Windows of predicted latency against all networks of a small space."""

import pytest

from loomax.nas.evolve.constraint import extremes, make_constraint, round_up
from loomax.nas.sample.graph import build_graph
from loomax.nas.space.draw import generator


@pytest.fixture
def seconds(latency, every_arch):
    return {arch: latency(arch) for arch in every_arch(latency.space)}


def test_the_ends_are_those_of_all_networks(latency, seconds):
    low, high = extremes(build_graph(latency.space, latency.prices))
    assert low + latency.constant == pytest.approx(min(seconds.values()))
    assert high + latency.constant == pytest.approx(max(seconds.values()))


def test_what_is_drawn_is_in_the_window(latency, seconds):
    ordered = sorted(seconds.values())
    low, high = ordered[len(ordered) // 3], ordered[len(ordered) // 2]
    constraint = make_constraint(latency, high, low)
    inside = {arch for arch, value in seconds.items() if low <= value <= high}
    drawn = {constraint.draw(generator(seed)) for seed in range(200)}
    assert drawn <= inside and len(drawn) > 0.2 * len(inside)
    assert all(constraint.holds(seconds[arch]) for arch in inside)
    assert not constraint.holds(low * 0.999) and not constraint.holds(high * 1.001)


def test_the_fastest_network_can_be_asked_for(latency, seconds):
    fastest = min(seconds, key=seconds.get)
    constraint = make_constraint(latency, float(round_up(seconds[fastest] * 1e3)) / 1e3)
    assert constraint.holds(seconds[constraint.draw(generator(0))])
    exact = make_constraint(latency, seconds[fastest])
    assert exact.draw(generator(0)) == fastest


def test_a_high_limit_is_the_whole_space(latency, seconds):
    constraint = make_constraint(latency, 1e9)
    assert constraint.high == pytest.approx(max(seconds.values()))
    assert constraint.size == len(seconds)


@pytest.mark.parametrize(
    ("high", "low", "line"),
    [
        (1e-6, 0.0, r"no network takes 0.001 ms or less: the fastest one .* takes [\d.]+ ms"),
        (2.0, 1.0, r"no network takes 1000 ms or more: the slowest one of the space takes"),
        (1.0, 2.0, "the window of latencies is 2000 to 1000 ms"),
    ],
)
def test_windows_without_networks(latency, high, low, line):
    with pytest.raises(ValueError, match=line):
        make_constraint(latency, high, low)


@pytest.mark.parametrize("value", [0.0123449, 0.01234501, 9.9999, 1.0, 123456.0, 0.0])
def test_rounding_up(value):
    assert value <= float(round_up(value)) <= value * 1.001
