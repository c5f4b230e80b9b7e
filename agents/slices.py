"""What the TPU compiler says of a configuration's training step on a slice that is not here."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from loomax.agents.pretrain import forms as pretrain
from loomax.agents.pretrain.config import PretrainConfig
from loomax.agents.rl.aot import abstract_state, update_program
from loomax.agents.rl.config import TrainConfig
from loomax.agents.rl.parts import build
from loomax.memory.forms.judge import Program, lower, program_name, wanted_bytes
from loomax.memory.forms.levers import DEFAULT, Lever
from loomax.runtime.aot import GIB, OUT_OF_MEMORY, report, uncached
from loomax.runtime.collectives import Traffic, collectives, total_bytes
from loomax.runtime.kept import recall, remember
from loomax.runtime.mesh import on_mesh
from loomax.runtime.target import Target, parse_target

Config = PretrainConfig | TrainConfig
# Of what is kept in the cache folder.
VERSION = 3
HEADER = (
    "| config, step | slice | chips | mesh | GiB/chip | of | TFLOP/chip | collectives, GiB/chip |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class SliceReport:
    """One training step on one slice. Bytes and operations are those of one device.

    Args:
        step: which program: "update", or a stage's step.
        mesh: sizes of the mesh axes above 1.
        peak_bytes: of arguments, outputs and temporaries; what the compiler asked for (at least)
            where it gave up.
        memory_bytes: that a device has.
        flops: of products, loops multiplied out.
        traffic: collective operations by kind, loops multiplied out; None where the compiler
            cannot print its program (libtpu 0.0.52 knows some that it cannot), or gave up.
        error: why there are no figures: the compiler's word on memory, or sizes that do not divide.
    """

    config: str
    step: str
    topology: str
    devices: int
    mesh: str
    peak_bytes: int
    memory_bytes: int
    flops: float
    traffic: Mapping[str, Traffic] | None
    error: str = ""

    def line(self) -> str:
        """A row of the table under `HEADER`."""
        start = f"| {self.config}, {self.step} | {self.topology} | {self.devices} | {self.mesh} |"
        if self.error:
            return f"{start} {self.error} | | | |"
        word = "fits" if self.peak_bytes <= self.memory_bytes else "DOES NOT FIT"
        return (
            f"{start} {_figure(self.peak_bytes / GIB)} | {self.memory_bytes / GIB:.0f}, {word} | "
            f"{_figure(self.flops / 1e12)} | {_shown(self.traffic)} |"
        )


def _shown(traffic: Mapping[str, Traffic] | None) -> str:
    if traffic is None:
        return "unknown"
    kinds = [f"{kind} {_figure(each.bytes / GIB)} ({each.count})" for kind, each in traffic.items()]
    return f"{_figure(total_bytes(traffic) / GIB)}: {', '.join(kinds) or 'none'}"


def _figure(value: float) -> str:
    """Two places, or two digits of what is small."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def slice_report(
    config: Config, topology: str, cache: Path | None = None, lever: Lever = DEFAULT
) -> SliceReport:
    """Compiles the main training step of a configuration for a slice.

    That is the update on one minibatch in reinforcement learning, and a step of the largest stage
    in pretraining. Sizes that do not divide over the slice are told in `error`.

    Args:
        cache: folder of reports by program.
        lever: how to compile.

    Raises:
        ValueError: there is no such topology, or libtpu is not installed.
    """
    target = parse_target(topology, config.mesh)
    sizes = [f"{axis} {size}" for axis, size in target.mesh.shape.items() if size > 1]
    memory = target.bytes_per_device
    empty = SliceReport(
        config.name, "", topology, target.mesh.size, " x ".join(sizes), 0, memory, 0.0, {}
    )
    try:
        step, program = _program(config, target)
        lowered, flops = lower(program, target)
    except ValueError as error:
        word = "update" if isinstance(config, TrainConfig) else "step"
        return dataclasses.replace(empty, step=word, error=str(error))
    empty = dataclasses.replace(empty, step=step, flops=flops / target.mesh.size)
    name = f"{topology.replace(':', '-')}-{program_name(lowered, target, lever)}-{VERSION}"
    path = None if cache is None else cache / f"{name}.json"
    found = recall(path, _held)
    if found is None:
        found = _compiled(lowered, empty, lever)
        remember(path, found)
    return dataclasses.replace(found, config=config.name)


def _program(config: Config, target: Target) -> tuple[str, Program]:
    config.validate(target.mesh.size)
    if isinstance(config, TrainConfig):
        with on_mesh(target.mesh):
            parts = build(config, target.mesh)
            program = update_program(config, parts, abstract_state(parts))
        title = f"update, {config.rl.rollout.envs} environments"
        return title, Program(program.run, program.args, key=program.key)
    number = pretrain.largest_stage(config)
    stage, form = config.stages[number], pretrain.form_of(config, number)
    title = f"{stage.batch} x {stage.length} tokens"
    return title, pretrain.step_program(config, number, form, None, target.mesh)


def _compiled(lowered: jax.stages.Lowered, empty: SliceReport, lever: Lever) -> SliceReport:
    try:
        with uncached():
            compiled = lowered.compile(compiler_options=dict(lever.options) or None)
    except jax.errors.JaxRuntimeError as error:
        if OUT_OF_MEMORY not in str(error):
            raise
        wanted = wanted_bytes(str(error))
        found = dataclasses.replace(empty, peak_bytes=wanted, traffic=None)
        return found if wanted else dataclasses.replace(found, error=_brief(str(error)))
    peak = compiled.memory_analysis().peak_memory_in_bytes or report(compiled).peak_bytes
    return dataclasses.replace(empty, peak_bytes=peak, traffic=_traffic(compiled))


def _traffic(compiled: jax.stages.Compiled) -> dict[str, Traffic] | None:
    try:
        return collectives(compiled.as_text())
    except jax.errors.JaxRuntimeError:
        return None


def _brief(message: str) -> str:
    first = message.partition("\n")[0]
    return f"does not fit: {first.partition(OUT_OF_MEMORY + ': ')[2] or first}"[:160]


def _held(traffic: Mapping[str, Any] | None, **fields: Any) -> SliceReport:
    """A report of the fields in a file."""
    kinds = traffic and {kind: Traffic(**each) for kind, each in traffic.items()}
    return SliceReport(traffic=kinds, **fields)
