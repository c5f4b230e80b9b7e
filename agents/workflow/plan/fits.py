"""Whether every unit fits somewhere, and what would help. Imports no JAX."""

from dataclasses import replace

from loomax.agents.workflow.plan.config import PlanConfig
from loomax.agents.workflow.plan.problem import Option, Problem

# How much larger a pool is looked at before more devices count as no help.
FACTOR = 64


def usable(
    problem: Problem, config: PlanConfig, index: int, batch: int, devices: int | None = None
) -> list[Option]:
    """The ways to run a batch of one unit that the settings allow."""
    unit, modes = problem.units[index], config.modes
    together = not unit.parts or "shared" in modes or (unit.fusable and "fused" in modes)
    apart = "space" in modes
    return [
        option
        for option in problem.options(index, batch, devices)
        if (together if option.ring is None else apart and option.ring.turns in config.counts)
    ]


def check_fits(problem: Problem, config: PlanConfig) -> None:
    """Checks that each unit alone fits on some devices at some batch.

    Then a plan exists wherever time-sharing is allowed, since what waits can be swapped out.

    Raises:
        ValueError: a unit that fits nowhere: which, how many bytes short, and each single change
            with which it would fit.
    """
    memory = problem.hardware.memory_bytes
    for index, unit in enumerate(problem.units):
        options = [
            (peak(option), size, option)
            for size in config.sizes(problem.batch)
            for option in usable(problem, config, index, size)
        ]
        if not options:
            raise ValueError(
                f"stage {unit.name!r} cannot run on {problem.hardware.devices} devices with "
                f"batches of {', '.join(map(str, config.sizes(problem.batch)))} and the modes "
                f"{', '.join(config.modes)}: device counts have to divide a batch"
            )
        least, size, option = min(options, key=lambda found: found[0])
        if least > memory:
            raise ValueError(
                f"stage {unit.name!r} fits nowhere: at best, {size} items on {option.devices} "
                f"devices, it needs {least:,} bytes a device ({option.resident_bytes:,} resident, "
                f"{option.working_bytes:,} working), {least - memory:,} more than the {memory:,} "
                f"there are: {'; or '.join(changes(problem, config, index, least))}"
            )


def peak(option: Option) -> int:
    """Bytes of the fullest device."""
    return option.resident_bytes + option.working_bytes


def changes(problem: Problem, config: PlanConfig, index: int, least: int) -> list[str]:
    """Single changes with which a unit fits, the cheapest first."""
    memory, devices = problem.hardware.memory_bytes, problem.hardware.devices
    found = []
    for count in range(1, problem.batch + 1):
        if problem.batch % count == 0:
            more = replace(config, microbatches=(*config.microbatches, count))
            options = usable(problem, more, index, problem.batch // count)
            if any(peak(option) <= memory for option in options):
                found.append(f"allow {count} microbatches")
                break
    larger = [
        option.devices
        for size in config.sizes(problem.batch)
        for option in usable(problem, config, index, size, FACTOR * devices)
        if peak(option) <= memory
    ]
    if larger:
        found.append(f"give it {min(larger)} devices")
    found.append(f"use devices with {least:,} bytes")
    return found
