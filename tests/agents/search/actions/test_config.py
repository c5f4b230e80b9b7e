"""Settings that make no sense are refused."""

import math

import pytest

from loomax.agents.search.actions.call import Tool
from loomax.agents.search.actions.config import BudgetConfig, DelayConfig, ToolConfig


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"timeout_s": 0.0}, "timeout_s is 0.0; it must be above 0"),
        ({"deadline_s": math.inf}, "deadline_s is inf"),
        ({"backoff_s": -1.0}, "backoff_s is -1.0; it must be at least 0"),
        ({"ttl_s": math.nan}, "ttl_s is nan"),
        ({"attempts": 0}, "attempts is 0; it must be at least 1"),
        ({"breaker_failures": 0}, "breaker_failures is 0"),
        ({"rate_per_s": 0.0}, "rate_per_s is 0.0; it must be above 0"),
    ],
)
def test_tools(given, message):
    with pytest.raises(ValueError, match=message):
        ToolConfig(**given)


def test_others():
    with pytest.raises(ValueError, match="speculative is -1; it must be at least 0"):
        BudgetConfig(speculative=-1)
    with pytest.raises(ValueError, match="median_s 0.0 must be above 0"):
        DelayConfig(median_s=0.0)
    # In tests the type check comes first.
    with pytest.raises((ValueError, TypeError), match="safety"):
        Tool("look", lambda arguments: None, "fine")
