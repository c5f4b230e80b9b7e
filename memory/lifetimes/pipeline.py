"""Traces of one device of a pipeline: one training iteration under interleaved 1F1B.

Sizes and lifetimes come from the real forward and backward jaxprs of the layers, run equation by
equation in the order of the schedule; nothing is computed. Phases are named "F0.1 -> B0.1": born in
the forward phase of chunk 0 and microbatch 1, last read in its backward phase. Buffers of kind
"dynamic" have sizes that follow the routing; their names are the same in every iteration.
"""

from collections.abc import Sequence
from functools import cache

from loomax.memory.lifetimes.jaxpr import Program
from loomax.memory.lifetimes.pipeline_blocks import (
    ROWS,
    Block,
    dense_block,
    expert_block,
    expert_sizes,
    routed_block,
)
from loomax.memory.lifetimes.pipeline_config import BlockConfig, PipelineConfig
from loomax.memory.lifetimes.pipeline_recorder import Buffer, Recorder
from loomax.memory.lifetimes.pipeline_router import expert_rows
from loomax.memory.lifetimes.pipeline_schedule import Work, interleaved
from loomax.memory.lifetimes.trace import Trace

RESIDENT = frozenset(("parameter", "gradient", "optimizer"))
# A gradient, a master copy and two moments in 4 bytes, for parameters of 2.
KEPT = (("gradient", 1), ("optimizer", 3))

# What the backward phase needs of a layer: its input, or its residuals.
Saved = tuple[Buffer | None, ...]


def pipeline_trace(config: PipelineConfig, iteration: int = 0) -> Trace:
    """One iteration on one device.

    Args:
        iteration: changes the routing of a mixture of experts, and nothing else.

    Raises:
        ValueError: a schedule that does not exist (`interleaved`).
    """
    works = interleaved(config.stages, config.chunks, config.microbatches, config.device)
    run = _Run(config, iteration)
    for work in works:
        run.phase(work)
    kind = "moe" if config.block.experts else "dense"
    return run.recorder.trace(run.residents, config.alignment, f"pipeline-{kind}")


class _Run:
    """The device: its parameters, and what forward phases have saved."""

    def __init__(self, config: PipelineConfig, iteration: int):
        self.config, self.recorder = config, Recorder()
        self.residents: list[Buffer] = []
        self.saved: dict[tuple[int, int], list] = {}
        self.layers = [self._layer(index) for index in range(config.layers)]
        routed = config.block.experts
        self.rows = expert_rows(config, iteration).tolist() if routed else []

    def _layer(self, index: int) -> "_Dense":
        make = _Routed if self.config.block.experts else _Dense
        layer = make(self.config.block, self.recorder, f"layer{index}")
        self.residents += layer.residents
        return layer

    def phase(self, work: Work) -> None:
        recorder, config = self.recorder, self.config
        recorder.phase = work.name
        size = 2 * config.block.batch * config.block.length * config.block.width
        flow: Buffer | None = recorder.new(f"{work.name}/received", size, "communication")
        each = config.layers // config.chunks
        indices = range(work.chunk * each, (work.chunk + 1) * each)
        key = (work.chunk, work.microbatch)
        kept = [] if work.forward else self.saved.pop(key)
        for index in indices if work.forward else reversed(indices):
            layer, prefix = self.layers[index], f"{work.name}/{index}"
            rows = self.rows[work.microbatch][index] if self.rows else ()
            if work.forward and config.recompute:
                kept.append(flow)
                flow = layer.primal(flow, prefix, rows)
            elif work.forward:
                flow, saved = layer.forward(flow, prefix, rows)
                kept.append(saved)
            else:
                saved = kept.pop()
                if config.recompute:
                    _, saved = layer.forward(saved, f"{prefix}/again", rows)
                flow = layer.backward(saved, flow, prefix, rows)
        # The result is sent.
        recorder.read(*_buffers([flow]))
        if work.forward:
            self.saved[key] = kept


class _Dense:
    """A layer, and its parameters."""

    def __init__(self, block: BlockConfig, recorder: Recorder, name: str):
        self.config, self.recorder = block, recorder
        self.residents: list[Buffer] = []
        self.block = routed_block(block) if block.experts else dense_block(block)
        self.own = self._parameters(self.block, name)

    def _parameters(self, block: Block, name: str) -> list[Buffer]:
        found = []
        for at, size in enumerate(block.parameters):
            found.append(self.recorder.new(f"{name}/{at}", size, "parameter"))
            self.residents.append(found[-1])
            for kind, count in KEPT:
                for turn in range(count):
                    id = f"{name}/{at}/{kind}{turn}"
                    self.residents.append(self.recorder.new(id, 2 * size, kind))
        return found

    def primal(self, flow, prefix: str, rows: Sequence[int]) -> Buffer | None:
        """The layer without residuals."""
        return self.recorder.run(self.block.primal, [*self.own, flow], prefix)[0]

    def forward(self, flow, prefix: str, rows: Sequence[int]) -> tuple[Buffer | None, Saved]:
        """The layer's result, and what its backward pass needs."""
        out, *saved = self.recorder.run(self.block.forward, [*self.own, flow], prefix)
        return out, tuple(saved)

    def backward(self, saved, flow, prefix: str, rows: Sequence[int]) -> Buffer | None:
        """The cotangent of the layer's input; those of parameters are added to the gradients."""
        *ours, flow = self.recorder.run(self.block.backward, [*saved, flow], prefix)
        self.recorder.read(*_buffers(ours))
        return flow


class _Routed(_Dense):
    """A layer with a mixture of experts, some of which are on this device.

    An expert without rows runs all the same, on empty buffers, so that all iterations have the same
    steps.
    """

    def __init__(self, block: BlockConfig, recorder: Recorder, name: str):
        super().__init__(block, recorder, name)
        self.experts = [
            self._parameters(expert_block(block, ROWS[0]), f"{name}/expert{at}")
            for at in range(block.local)
        ]

    def primal(self, flow, prefix: str, rows: Sequence[int]) -> Buffer | None:
        total, *shared = self.recorder.run(self.block.primal, [*self.own, flow], prefix)
        for at, count in enumerate(rows):
            total, *_ = self._expert("primal", at, count, [*shared, total], prefix)
        return total

    def forward(self, flow, prefix: str, rows: Sequence[int]) -> tuple[Buffer | None, tuple]:
        total, *found = self.recorder.run(self.block.forward, [*self.own, flow], prefix)
        shared, saved, experts = found[:2], found[2:], []
        for at, count in enumerate(rows):
            total, *inside = self._expert("forward", at, count, [*shared, total], prefix)
            experts.append(tuple(inside))
        return total, (tuple(saved), tuple(experts))

    def backward(self, saved, flow, prefix: str, rows: Sequence[int]) -> Buffer | None:
        own, experts = saved
        shared: list[Buffer | None] = []
        for at in reversed(range(len(rows))):
            name = f"{prefix}/expert{at}"
            program, sizes, dynamic = _expert_program(self.config, "backward", rows[at])
            found = self.recorder.run(program, [*experts[at], flow], name, sizes, dynamic)
            self.recorder.read(*_buffers(found[:2]))
            mine, flow = found[2:4], found[4]
            shared = self._added(shared, mine, name) if shared else mine
        *ours, flow = self.recorder.run(self.block.backward, [*own, flow, *shared], prefix)
        self.recorder.read(*_buffers(ours))
        return flow

    def _expert(self, part: str, at: int, count: int, inputs: list, prefix: str) -> list:
        """Runs one expert on its rows."""
        name = f"{prefix}/expert{at}"
        rows = self.recorder.new(f"{name}/rows", 4 * count, "dynamic")
        program, sizes, dynamic = _expert_program(self.config, part, count)
        inputs = [*self.experts[at], *inputs, rows]
        return self.recorder.run(program, inputs, name, sizes, dynamic)

    def _added(self, one: list, other: list, name: str) -> list[Buffer | None]:
        """Sums of the cotangents of what all experts read."""
        found: list[Buffer | None] = []
        for at, pair in enumerate(zip(one, other, strict=True)):
            real = _buffers(pair)
            total = self.recorder.new(f"{name}/sum{at}", real[0].size, "temporary")
            self.recorder.read(*real, total)
            found.append(total)
        return found


@cache
def _expert_program(
    config: BlockConfig, part: str, rows: int
) -> tuple[Program, tuple[int, ...], frozenset[int]]:
    few, many = (getattr(expert_block(config, count), part) for count in ROWS)
    return few, *expert_sizes(few, many, rows)


def _buffers(found: Sequence[Buffer | None]) -> list[Buffer]:
    return [buffer for buffer in found if buffer is not None]
