"""A plan for a configuration's iteration of reinforcement learning: profile, hardware, choice."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from loomax.agents.rl.config import TrainConfig
from loomax.agents.rl.parts import build
from loomax.agents.workflow.build import problem_of
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.measure.links import Rates, measure_rates
from loomax.agents.workflow.measure.profiler import estimate, measure
from loomax.agents.workflow.plan.choose import Choice, choose
from loomax.agents.workflow.profile import Profile, read_profile
from loomax.agents.workflow.programs.rl import apart, make_iteration
from loomax.agents.workflow.trace import trace
from loomax.agents.workflow.workflow import Workflow
from loomax.runtime.aot import hbm_per_device, topology_mesh
from loomax.runtime.mesh import MeshConfig, make_mesh

# For devices that are not here, unless `--link` and `--host` say better, and not measured: bytes a
# second of all links of a chip as its maker has them (one direction), by which batches pass between
# groups of devices; and of PCI Express, x16 of the third generation, by which residents swap.
LINKS = {"TPU v4": 300e9, "TPU v5 lite": 200e9, "TPU v5": 600e9, "TPU v6 lite": 448e9}
PCI = 16e9
# One core copies about as much from memory to memory.
MEMORY = 10e9


@dataclass(frozen=True)
class Traced:
    """An iteration that was traced and profiled.

    Args:
        source: where the profile is from.
        bytes_per_device: memory of a device.
        rates: of its links, where they were measured.
        program, inputs: the iteration; arrays, or shapes where nothing runs.
    """

    workflow: Workflow
    profile: Profile
    source: str
    devices: int
    bytes_per_device: int
    rates: Rates | None = None
    program: Callable | None = None
    inputs: tuple[Any, ...] = ()


def profile_rl(
    config: TrainConfig,
    *,
    devices: int | None = None,
    topology: str | None = None,
    rounds: int = 5,
    profile: str | Path | None = None,
) -> Traced:
    """The stages of `config`'s iteration with their times and memory.

    Args:
        devices: how many of those here; None: all.
        topology: a TPU slice to ask the compiler about instead.
        rounds: times that each stage is timed.
        profile: file of a profile that is taken as it is.

    Raises:
        ValueError: the configuration, the number of devices or the topology is wrong, or the
            profile is of another kind of device.
    """
    here = jax.devices()
    if topology is None:
        pool = here[: devices or len(here)]
        if len(pool) < (devices or 1):
            raise ValueError(f"--devices is {devices}, but {len(here)} are here")
        size = memory_of(pool[0]) // (len(pool) if pool[0].platform == "cpu" else 1)
    else:
        mesh = topology_mesh(topology)
        pool, size = list(mesh.devices.flat), hbm_per_device(topology, mesh)
    kind, batch = pool[0].device_kind, config.rl.rollout.envs
    known = None if profile is None else read_profile(profile, kind)
    one = make_mesh(MeshConfig(), here[:1])
    config.validate(one.size)
    parts = build(config, one)
    iteration, inputs = make_iteration(parts), _inputs(parts, drawn=topology is None)
    workflow = trace(iteration, *inputs, batch=batch)
    if known is not None:
        ran = {"program": iteration, "inputs": inputs}
        return Traced(workflow, known, f"from {profile}", len(pool), size, **ran)
    if topology is None:
        found = measure(iteration, *inputs, batch=batch, devices=pool, rounds=rounds)
        source = f"{found.source}, {found.cached} points known before"
        rates = measure_rates(pool, rounds)
    else:
        found = estimate(iteration, *inputs, batch=batch, topology=topology)
        source, rates = f"{found.source} of the TPU compiler, nothing ran", None
    return Traced(workflow, found.profile, source, len(pool), size, rates, iteration, inputs)


def choose_plan(
    traced: Traced,
    *,
    memory: int | None = None,
    link: int | None = None,
    host: int | None = None,
) -> Choice:
    """The fastest plan of a traced iteration.

    Args:
        memory: bytes of a device; None: what it has.
        link, host: bytes a second between groups of devices, and between a device and its host;
            None: as they were measured, else by default.

    Raises:
        ValueError: a stage fits nowhere: which, how many bytes short, and what would fit.
    """
    kind, rates = traced.profile.device_kind, traced.rates or Rates(None, 0.0)
    hardware = Hardware(
        kind,
        traced.devices,
        memory or traced.bytes_per_device,
        link_bytes_per_s=float(link or rates.link or LINKS.get(kind, MEMORY)),
        host_bytes_per_s=float(host or rates.host or (PCI if kind in LINKS else MEMORY)),
    )
    return choose(problem_of(traced.workflow, traced.profile, hardware))


def memory_of(device: jax.Device) -> int:
    """Bytes of a device; of this machine for a CPU."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _inputs(parts: Any, *, drawn: bool) -> tuple[Any, ...]:
    """What the iteration takes: arrays, or shapes where nothing runs."""

    def draw() -> Any:
        params = parts.init_params(key=jax.random.key(0))
        return parts.learner.init(*params, key=jax.random.key(1)), jax.random.key(2)

    state, key = jax.jit(draw)() if drawn else jax.eval_shape(draw)
    return (*apart(state), key)
