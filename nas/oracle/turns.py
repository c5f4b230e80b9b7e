"""Timing programs in turns, so that a slow minute hits all of them. Imports no JAX."""

import math
import statistics
import time
from collections.abc import Callable, Sequence

from loomax.nas.oracle.config import CpuConfig
from loomax.nas.oracle.reading import Reading

# Does its work so many times, and returns when it is done.
Run = Callable[[int], None]
# A sample as long as this share of what is wanted will do.
ENOUGH = 0.8
GROWTHS = 8


def take_turns(
    runs: Sequence[Run], config: CpuConfig, clock: Callable[[], float] = time.process_time
) -> list[Reading]:
    """Seconds of each run, by the best of several samples.

    All runs take turns, `rounds` times. While some run's noise is above the bound, all take
    turns again, up to `repeats` times: whoever reads the noise knows what was not reached.

    Args:
        clock: seconds; by default the CPU time of all threads of this process, which does not
            count what others do.
    """

    def sample(run: Run, times: int) -> float:
        start = clock()
        run(times)
        return (clock() - start) / times

    counts = [_count(run, config.sample_seconds, sample) for run in runs]
    samples: list[list[float]] = [[] for _ in runs]
    for _ in range(config.repeats):
        for _ in range(config.rounds):
            for taken, run, times in zip(samples, runs, counts, strict=True):
                taken.append(sample(run, times))
        readings = [_reading(taken) for taken in samples]
        if all(reading.noise <= config.noise for reading in readings):
            break
    return readings


def _count(run: Run, seconds: float, sample: Callable[[Run, int], float]) -> int:
    """How often a run works in a sample. Calling it takes time, too, so one call tells little."""
    run(1)  # the first call touches memory that later ones find warm
    times = 1
    for _ in range(GROWTHS):
        spent = times * sample(run, times)
        if spent >= ENOUGH * seconds:
            break
        times = math.ceil(times * min(10.0, seconds / max(spent, 1e-7)))
    return times


def _reading(samples: Sequence[float]) -> Reading:
    best = min(samples)
    return Reading(best, statistics.median(samples) / best - 1 if best else 0.0)
