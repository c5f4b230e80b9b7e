"""Rates of links, on a made-up clock."""

import itertools

import jax
import pytest

from loomax.agents.workflow.measure import links
from loomax.agents.workflow.measure.links import Rates, measure_rates


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(links, "BYTES", 1024)


def ticking(spans):
    """A clock on which one transfer after the other takes so long."""
    times = itertools.chain.from_iterable((0.0, span) for span in spans)
    return lambda: next(times)


def test_medians_without_the_first_round():
    out, back, across = [99.0, 2.0, 1.0, 3.0], [99.0, 6.0, 9.0, 6.0], [99.0, 4.0, 4.0, 5.0]
    clock = ticking([*out, *back, *across])
    assert measure_rates(jax.devices()[:3], 3, clock) == Rates(1024 / 4, 2 * 1024 / (2 + 6))


def test_one_device_has_no_link():
    clock = ticking([1.0] * 4)
    assert measure_rates(jax.devices()[:1], 1, clock) == Rates(None, 1024.0)
