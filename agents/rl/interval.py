"""Confidence interval of a success rate."""

import math


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a binomial proportion (95 % by default).

    Raises:
        ValueError: if trials < 1 or successes lie outside 0..trials.
    """
    if trials < 1:
        raise ValueError(f"trials is {trials}; it must be at least 1")
    if not 0 <= successes <= trials:
        raise ValueError(f"successes is {successes}; it must lie in 0..{trials}")
    rate = successes / trials
    scale = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / scale
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)
