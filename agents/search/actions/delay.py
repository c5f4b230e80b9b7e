"""Random times that depend on a seed and on what they are for, not on the order of the calls."""

import math
from random import Random

from loomax.agents.search.actions.config import DelayConfig


def generator(*parts: object) -> Random:
    """A generator that is the same for the same parts, in every process."""
    return Random("|".join(map(str, parts)))


def injected_delay_s(config: DelayConfig, key: str, attempt: int) -> float:
    """The delay of one attempt; the same call takes as long under every policy that is compared."""
    drawn = generator("delay", config.seed, key, attempt)
    return drawn.lognormvariate(math.log(config.median_s), config.sigma)


def backoff_delay_s(first_s: float, most_s: float, attempt: int, random: Random) -> float:
    """Full jitter (Brooker 2015, "Exponential backoff and jitter").

    Args:
        attempt: which one failed, from 0.
    """
    # Beyond 2^60 the bound has long been reached, and a float would overflow.
    return random.uniform(0.0, min(most_s, first_s * 2.0 ** min(attempt, 60)))
