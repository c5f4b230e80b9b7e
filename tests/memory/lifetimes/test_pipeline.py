"""Pipelined schedules: published warm-up counts, valid orders; traces against brute force."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.memory.lifetimes.pipeline import RESIDENT, pipeline_trace
from loomax.memory.lifetimes.pipeline_blocks import (
    ROWS,
    dense_block,
    expert_block,
    expert_sizes,
    trace_block,
)
from loomax.memory.lifetimes.pipeline_config import BlockConfig, PipelineConfig
from loomax.memory.lifetimes.pipeline_router import expert_rows
from loomax.memory.lifetimes.pipeline_schedule import Work, interleaved, warm_up

BLOCK = BlockConfig(1, 16, 32, 2, 64)
MOE = replace(BLOCK, experts=8, local=2)
SMALL = PipelineConfig(BLOCK, layers=2, stages=2, microbatches=2)


def names(works):
    return " ".join(work.name for work in works)


def test_plain_1f1b():
    # PipeDream-Flush, figure 4 of arXiv 2104.04473, fourth and third of four devices.
    assert names(interleaved(4, 1, 4, 3)) == "F0.0 B0.0 F0.1 B0.1 F0.2 B0.2 F0.3 B0.3"
    assert names(interleaved(4, 1, 4, 2)) == "F0.0 F0.1 B0.0 F0.2 B0.1 F0.3 B0.2 B0.3"


def test_interleaved_1f1b():
    # Two devices with two chunks each, first device: warm-up is 2 (2 - 1) + (2 - 1) 2 = 4.
    assert names(interleaved(2, 2, 4, 0)) == (
        "F0.0 F0.1 F1.0 F1.1 F0.2 B1.0 F0.3 B1.1 F1.2 B0.0 F1.3 B0.1 B1.2 B1.3 B0.2 B0.3"
    )


@pytest.mark.parametrize(
    ("stages", "chunks", "microbatches", "device", "count"),
    [(4, 1, 8, 0, 3), (4, 1, 8, 3, 0), (4, 1, 2, 0, 2), (4, 2, 8, 0, 10), (4, 2, 8, 3, 4)]
    + [(4, 3, 8, 0, 14), (4, 3, 8, 2, 10), (4, 3, 4, 0, 12), (1, 1, 3, 0, 0)],
)
def test_warm_up_counts_are_the_published_ones(stages, chunks, microbatches, device, count):
    assert warm_up(stages, chunks, microbatches, device) == count


@pytest.mark.parametrize("chunks", [1, 2, 3])
@pytest.mark.parametrize("device", range(4))
def test_every_phase_runs_once_and_backward_after_forward(chunks, device):
    works = interleaved(4, chunks, 8, device)
    assert len(set(works)) == len(works) == 2 * chunks * 8
    for at, work in enumerate(works):
        if not work.forward:
            assert Work(True, work.chunk, work.microbatch) in works[:at]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((0, 1, 1, 0), "stages is 0"),
        ((2, 0, 1, 0), "chunks is 0"),
        ((2, 1, 1, 2), "device is 2: give 0 to 1"),
        ((4, 2, 6, 0), "microbatches is 6: with 2 chunks it must be a multiple of 4"),
    ],
)
def test_schedules_that_do_not_exist(args, words):
    with pytest.raises(ValueError, match=words):
        interleaved(*args)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PipelineConfig(layers=6, chunks=4), "chunks is 4"),
        (lambda: BlockConfig(width=30, heads=4), "width is 30"),
        (lambda: BlockConfig(experts=1), "experts is 1"),
    ],
)
def test_configs_are_checked(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def swept(trace):
    """Most bytes live at once, from a table of all times."""
    live = np.zeros(max(record.death for record in trace.records), np.int64)
    for record in trace.records:
        live[record.birth : record.death] += record.padded
    return live.max()


@pytest.mark.parametrize("block", [BLOCK, MOE], ids=["dense", "moe"])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("chunks", [1, 2])
def test_traces_are_valid_and_their_bound_is_the_sweep(block, recompute, chunks):
    trace = pipeline_trace(replace(SMALL, block=block, recompute=recompute, chunks=chunks))
    assert trace.lower_bound == swept(trace)
    order = {work.name: at for at, work in enumerate(interleaved(2, chunks, 2, 0))}
    for record in trace.records:
        if record.kind in RESIDENT:
            assert not record.phase and record.death > max(r.birth for r in trace.records)
        else:
            born, died = record.phase.split(" -> ")
            assert order[born] <= order[died]


def test_residuals_wait_for_their_own_backward_phase():
    for record in pipeline_trace(SMALL).records:
        born, _, died = record.phase.partition(" -> ")
        assert born == died or died == born.replace("F", "B")


def test_recomputing_keeps_one_input_a_layer():
    trace = pipeline_trace(replace(SMALL, recompute=True))
    size = 2 * BLOCK.length * BLOCK.width
    kept = [r for r in trace.records if r.phase == "F0.0 -> B0.0"]
    assert [record.size for record in kept] == [size] * SMALL.layers
    assert trace.lower_bound < pipeline_trace(SMALL).lower_bound


def test_a_layer_saves_what_its_backward_jaxpr_reads():
    config = PipelineConfig(BLOCK, layers=1, stages=1, microbatches=1, alignment=1)
    block = dense_block(BLOCK)
    read = {value for step in block.backward.steps for value in step.reads}
    # Residuals are results of the forward jaxpr and arguments of the backward one.
    pairs = zip(block.forward.outputs[1:], block.backward.inputs[:-1], strict=True)
    wanted = {value for value, argument in pairs if argument in read and value is not None}
    assert wanted & set(block.forward.inputs)
    parameters = set(block.forward.inputs[:-1])
    records = pipeline_trace(config).records
    saved = sorted(record.size for record in records if record.phase == "F0.0 -> B0.0")
    assert saved == sorted(block.forward.sizes[value] for value in wanted - parameters)


def test_gradients_have_the_parameters_bytes():
    spec = jax.ShapeDtypeStruct((4, 4), jnp.float32)
    block = trace_block(lambda p, x: jnp.tanh(x @ p[0]), [spec], [spec])
    assert [block.backward.sizes[v] for v in block.backward.outputs if v is not None] == [64, 64]
    assert block.parameters == (64,) and block.results == 1


@pytest.mark.parametrize("part", ["primal", "forward", "backward"])
def test_sizes_of_an_expert_are_those_of_its_own_jaxpr(part):
    few, many, third = (getattr(expert_block(MOE, rows), part) for rows in (*ROWS, 7))
    sizes, dynamic = expert_sizes(few, many, 7)
    assert sizes == third.sizes
    assert dynamic and few.steps == many.steps == third.steps


def test_iterations_differ_in_dynamic_sizes_only():
    config = replace(SMALL, block=MOE)
    one, two = (pipeline_trace(config, turn).records for turn in range(2))
    assert [replace(r, size=0) for r in one] == [replace(r, size=0) for r in two]
    differ = {r.kind for r, other in zip(one, two, strict=True) if r.size != other.size}
    assert differ == {"dynamic"}


def test_routing_is_skewed_and_repeatable():
    config = PipelineConfig(replace(MOE, length=512, local=8), layers=2)
    rows = expert_rows(config, 3)
    assert (rows == expert_rows(config, 3)).all() and (rows != expert_rows(config, 4)).any()
    assert (rows.sum(-1) == 2 * 512).all()
    assert rows.max() > 2 * rows.mean()
