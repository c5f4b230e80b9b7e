"""Shapes of the compiled steps: how many rows, and how many tokens of each."""

from collections.abc import Sequence

from loomax.agents.engine.config import EngineConfig

Bucket = tuple[int, int]


def prefill(config: EngineConfig, counts: Sequence[int]) -> Bucket:
    """The bucket for prompts of which so many tokens are to be computed.

    Several share a step if that reads more tokens than a step of the first one alone.
    """
    smallest = config.chunks[0]
    together = sum(min(count, smallest) for count in counts[: config.slots])
    if len(counts) > 1 and together > min(counts[0], config.chunks[-1]):
        return config.slots, smallest
    fitting = [chunk for chunk in config.chunks if chunk >= counts[0]]
    return 1, fitting[0] if fitting else config.chunks[-1]


def every(config: EngineConfig) -> list[Bucket]:
    """All buckets of steps that do not verify."""
    alone = [(1, chunk) for chunk in config.chunks]
    shared = [(config.slots, config.chunks[0]), (config.slots, 1)]
    return sorted(set(alone + shared))
