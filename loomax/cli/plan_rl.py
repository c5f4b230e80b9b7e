"""loomax plan rl: where and when the stages of an iteration should run."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loomax.cli.train import check_early
from loomax.runtime.config import fail, parse, take_option
from loomax.runtime.places import check_folder, check_source
from loomax.runtime.topology import check_compiler, check_topology

DESCRIPTION = """Profiles the stages of an iteration of reinforcement learning (rollout, returns,
update), plans where and when each runs, and prints the plan, its predicted timeline and its rivals
with their predicted times. Stages are measured here, or with --topology estimated by the TPU
compiler (pip install 'loomax[tpu-aot]').

usage: loomax plan rl --config NAME [OPTIONS] [--field value ...]

--devices N      devices to plan for (default: all that are here; on CPU that many are simulated)
--topology T     instead plan for a slice that is not here, such as v5e:2x2
--profile FILE   plan from this profile and measure nothing
--memory SIZE    of a device, such as 15GiB (default: what it has; on CPU a share of the machine's)
--link RATE      bytes a second between groups of devices, such as 40GB (default: measured; for
                 devices that are not here, what their maker says)
--host RATE      bytes a second between a device and the host's memory (default: the same)
--rounds N       times that each stage is timed (default: 5)
--try N          also run the plan and its rivals N times each, and say which is fastest
--out DIR        where profile.json and timeline.png go (default: plans/NAME)"""
NAMES = ("devices", "topology", "profile", "memory", "link", "host", "rounds", "try", "out")


@dataclass(frozen=True)
class PlanOptions:
    """What was asked; all as text."""

    devices: str | None = None
    topology: str | None = None
    profile: str | None = None
    memory: str | None = None
    link: str | None = None
    host: str | None = None
    rounds: str | None = None
    try_: str | None = None
    out: str | None = None

    def number(self, name: str, prog: str) -> int | None:
        """An option that is a whole number of at least 1."""
        text = getattr(self, _field(name))
        if text is None:
            return None
        if not text.isdecimal() or int(text) < 1:
            fail(prog, f"--{name} is {text!r}: give a whole number of at least 1")
        return int(text)

    def size(self, name: str, prog: str) -> int | None:
        """An option that is a number of bytes."""
        from loomax.runtime.sizes import parse_bytes

        text = getattr(self, name)
        try:
            return None if text is None else parse_bytes(text, f"--{name}")
        except ValueError as error:
            fail(prog, str(error))


def run(argv: Sequence[str], prog: str) -> None:
    """loomax plan rl --config NAME."""
    from loomax.agents.rl.presets import CONFIGS

    rest, given = list(argv), {}
    for name in NAMES:
        given[_field(name)], rest = take_option(rest, f"--{name}", prog)
    options = PlanOptions(**given)
    if options.devices and options.topology:
        fail(prog, "--devices and --topology: give one of them, a topology has its devices")
    devices = options.number("devices", prog)
    rounds, tries = options.number("rounds", prog) or 5, options.number("try", prog)
    if tries and options.topology:
        fail(prog, "--try and --topology: only what is here can run, give one of them")
    rates = {name: options.size(name, prog) for name in ("memory", "link", "host")}
    config = parse(CONFIGS, rest, prog, DESCRIPTION)
    check_early(config)
    check_folder(options.out or f"plans/{config.name}", "--out")
    if options.profile:
        check_source(options.profile, "--profile")
    if options.topology:
        check_topology(options.topology)
        check_compiler()
        os.environ["JAX_PLATFORMS"] = "cpu"

    from loomax.agents.planning import choose_plan, profile_rl
    from loomax.runtime.compile import setup_cpu

    setup_cpu(devices=1 if options.topology else devices)
    traced = profile_rl(
        config,
        devices=devices,
        topology=options.topology,
        rounds=rounds,
        profile=options.profile,
    )
    choice = choose_plan(traced, **rates)
    show(traced, choice, config.name, Path(options.out or f"plans/{config.name}"))
    if tries:
        show_trial(traced, choice, tries)


def show(traced: Any, choice: Any, name: str, folder: Path) -> None:
    """The plan as text, and its files."""
    from loomax.agents.workflow.gantt import draw
    from loomax.agents.workflow.profile import write_profile
    from loomax.agents.workflow.report import describe, parts
    from loomax.agents.workflow.simulate import simulate

    hardware = choice.problem.hardware
    print(f"profile: {traced.source}")
    print(
        f"rates:   {hardware.link_bytes_per_s / 1e9:.3g} GB/s between devices, "
        f"{hardware.host_bytes_per_s / 1e9:.3g} GB/s to host memory "
        f"({'measured' if traced.rates else 'not measured'}, unless given)"
    )
    print(describe(choice, traced.profile, name))
    write_profile(traced.profile, folder / "profile.json")
    timeline = simulate(choice.plan, parts=parts(choice))
    title = f"{name}: predicted timeline"
    if traced.profile.source == "estimate":
        title += ", from the compiler's estimates"
    draw(timeline, folder / "timeline.png", title)
    print(f"\nprofile   {folder / 'profile.json'}\ntimeline  {folder / 'timeline.png'}")


def show_trial(traced: Any, choice: Any, rounds: int) -> None:
    """Runs the plan and its rivals, and says what they took."""
    import jax

    from loomax.agents.workflow.execute.trial import try_plans
    from loomax.agents.workflow.report import sketch

    pool = jax.devices()[: traced.devices]
    trial = try_plans(traced.program, choice, *traced.inputs, rounds=rounds, devices=pool)
    print(f"\ntried     medians of {rounds}", *trial.lines(), sep="\n")
    print(f"fastest   {trial.fastest}: {sketch(trial.plan)}")


def _field(option: str) -> str:
    return "try_" if option == "try" else option
