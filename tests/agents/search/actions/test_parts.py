"""The parts without a loop: keys, cache, limits, delays."""

import numpy as np
import pytest

from loomax.agents.search.actions.budget import Budget
from loomax.agents.search.actions.cache import Cache
from loomax.agents.search.actions.canonical import canonical_key
from loomax.agents.search.actions.config import BudgetConfig, DelayConfig
from loomax.agents.search.actions.delay import backoff_delay_s, generator, injected_delay_s
from loomax.agents.search.actions.limits import CircuitBreaker, TokenBucket


def test_equal_calls_have_equal_keys():
    one = canonical_key("search", {"query": " a  b\n", "k": 3}, "v1")
    assert one == canonical_key("search", {"k": 3, "query": "a b"}, "v1")
    # e with an acute accent, as one character and as two.
    assert canonical_key("s", {"q": "\u00e9"}, "") == canonical_key("s", {"q": "e\u0301"}, "")


def test_other_calls_have_other_keys():
    calls = [
        ("search", {"query": "a b"}, "v1"),
        ("search", {"query": "a b"}, "v2"),
        ("fetch", {"query": "a b"}, "v1"),
        ("search", {"query": "A b"}, "v1"),
        ("search", {"query": "ab"}, "v1"),
        ("search", {"query": ["a b"]}, "v1"),
        ("search", {"query": "1"}, "v1"),
        ("search", {"query": 1}, "v1"),
        ("search", {"query": True}, "v1"),
        ("search", {"query": None}, "v1"),
    ]
    assert len({canonical_key(*call) for call in calls}) == len(calls)


@pytest.mark.parametrize("value", [float("nan"), {1: 2}, object(), {"x": {3}}])
def test_what_json_cannot_hold_has_no_key(value):
    with pytest.raises(ValueError, match="the arguments of search are not JSON"):
        canonical_key("search", {"query": value}, "")


def test_results_get_old():
    cache = Cache(2)
    cache.put("a", 1, 0.0, 10.0)
    assert cache.get("a", 9.9) == 1 and cache.get("a", 10.0) is None and len(cache) == 0
    cache.put("a", 1, 0.0, 0.0)
    assert len(cache) == 0


def test_what_was_used_longest_ago_goes_first():
    cache = Cache(2)
    cache.put("a", 1, 0.0, 10.0)
    cache.put("b", 2, 0.0, 10.0)
    assert cache.get("a", 1.0) == 1
    cache.put("c", 3, 0.0, 10.0)
    assert [cache.get(key, 1.0) for key in "abc"] == [1, None, 3]
    with pytest.raises(ValueError, match="a cache of 0 results holds nothing"):
        Cache(0)


def starts(bucket, count, now=0.0):
    """When calls that come together start."""
    times = []
    for _ in range(count):
        now += bucket.delay(now)
        bucket.take(now)
        times.append(now)
    return times


def test_a_bucket_lets_a_burst_through_and_then_the_rate():
    bucket = TokenBucket(rate=2.0, burst=3)
    assert starts(bucket, 6) == pytest.approx([0, 0, 0, 0.5, 1.0, 1.5])
    # Idle for long: no more than one burst has gathered.
    assert starts(bucket, 5, now=100.0) == pytest.approx([100, 100, 100, 100.5, 101.0])
    assert starts(TokenBucket(rate=np.inf, burst=1), 1000) == [0.0] * 1000


def test_a_bucket_stays_closed_as_long_as_the_tool_asked():
    bucket = TokenBucket(rate=100.0, burst=10)
    bucket.close_until(5.0)
    bucket.close_until(3.0)
    assert bucket.delay(1.0) == pytest.approx(4.0) and bucket.delay(5.0) == 0.0


def test_the_breaker_opens_tries_once_and_closes():
    breaker = CircuitBreaker(failures=2, pause_s=10.0)
    breaker.failed(0.0)
    breaker.succeeded()
    breaker.failed(1.0)
    assert breaker.allow(1.0)
    breaker.failed(2.0)
    assert not breaker.allow(11.9)
    # Looking changes nothing.
    assert not breaker.blocked(12.0) and not breaker.blocked(12.0)
    assert breaker.allow(12.0) and breaker.blocked(12.0) and not breaker.allow(12.0)
    breaker.failed(13.0)
    assert not breaker.allow(22.9) and breaker.allow(23.0)
    # Given up: the next one may try.
    breaker.abandoned()
    assert breaker.allow(23.0)
    breaker.succeeded()
    assert breaker.allow(23.0) and breaker.allow(23.0)


def test_injected_delays_are_log_normal_and_belong_to_their_call():
    config = DelayConfig(median_s=1.5, sigma=0.4, seed=3)
    drawn = [injected_delay_s(config, f"key {number}", 0) for number in range(4000)]
    logs = np.log(drawn)
    # Standard errors: 0.4 / sqrt(4000) = 0.0063 of the mean, 0.0045 of the deviation.
    assert logs.mean() == pytest.approx(np.log(1.5), abs=0.025)
    assert logs.std() == pytest.approx(0.4, abs=0.018)
    assert injected_delay_s(config, "key 7", 0) == drawn[7] != injected_delay_s(config, "key 7", 1)
    other = DelayConfig(median_s=1.5, sigma=0.4, seed=4)
    assert injected_delay_s(other, "key 7", 0) != drawn[7]


def test_the_backoff_has_full_jitter():
    random = generator("test")
    for attempt, most in [(0, 0.5), (1, 1.0), (3, 3.0), (5000, 3.0)]:
        drawn = [backoff_delay_s(0.5, 3.0, attempt, random) for _ in range(2000)]
        assert 0 <= min(drawn) < 0.02 * most and 0.98 * most < max(drawn) <= most
        assert np.mean(drawn) == pytest.approx(most / 2, rel=0.05)


def test_a_budget_has_two_purses():
    budget = Budget(BudgetConfig(calls=1, speculative=2))
    assert [budget.spend(True) for _ in range(2)] == [None, None]
    assert budget.spend(True) == "the request has spent its 2 speculative calls"
    assert budget.spend(False) is None
    assert budget.spend(False) == "the request has spent its 1 calls"
    assert (budget.calls, budget.speculative) == (1, 2)
