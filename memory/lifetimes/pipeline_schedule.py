"""Interleaved 1F1B: the order in which one device of a pipeline works. Imports no JAX.

Rules: Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using
Megatron-LM", SC 2021 (arXiv 2104.04473), section 2.2; warm-up counts as in Megatron-LM's
`megatron/core/pipeline_parallel/schedules.py`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """One phase: forward or backward of one microbatch in one chunk of the device's layers."""

    forward: bool
    chunk: int
    microbatch: int

    @property
    def name(self) -> str:
        """Such as F0.1: forward, chunk 0, microbatch 1."""
        return f"{'F' if self.forward else 'B'}{self.chunk}.{self.microbatch}"


def warm_up(stages: int, chunks: int, microbatches: int, device: int) -> int:
    """Forward phases before the first backward phase that alternates with them."""
    after = stages - device - 1
    count = after if chunks == 1 else 2 * after + (chunks - 1) * stages
    return min(count, chunks * microbatches)


def interleaved(stages: int, chunks: int, microbatches: int, device: int) -> list[Work]:
    """The phases of one iteration on one device, in order.

    Args:
        stages: devices in the pipeline.
        chunks: of the layers of each device (virtual pipeline); 1 is plain 1F1B.
        microbatches: of an iteration.
        device: which of the stages.

    Raises:
        ValueError: a number below 1, a device that is none, or microbatches that chunks of a
            pipeline cannot take in turns.
    """
    for name, value in (("stages", stages), ("chunks", chunks), ("microbatches", microbatches)):
        if value < 1:
            raise ValueError(f"{name} is {value}: give at least 1")
    if not 0 <= device < stages:
        raise ValueError(f"device is {device}: give 0 to {stages - 1}, for {stages} stages")
    if chunks > 1 and microbatches % stages:
        raise ValueError(
            f"microbatches is {microbatches}: with {chunks} chunks it must be a multiple of "
            f"{stages}, the stages"
        )
    total = chunks * microbatches
    early = warm_up(stages, chunks, microbatches, device)

    def work(forward: bool, count: int) -> Work:
        if chunks == 1:
            return Work(forward, 0, count)
        turn, rest = divmod(count, stages * chunks)
        chunk = rest // stages
        return Work(
            forward, chunk if forward else chunks - 1 - chunk, turn * stages + rest % stages
        )

    order = [work(True, count) for count in range(early)]
    for count in range(total):
        if count + early < total:
            order.append(work(True, count + early))
        order.append(work(False, count))
    return order
