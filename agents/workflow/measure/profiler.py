"""The profile of a program's stages."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
from jaxtyping import PyTree

from loomax.agents.workflow.execute.evaluate import Values
from loomax.agents.workflow.execute.layout import layout_of
from loomax.agents.workflow.execute.program import HostCall
from loomax.agents.workflow.execute.record import record
from loomax.agents.workflow.fit import fit
from loomax.agents.workflow.measure.cache import file_of
from loomax.agents.workflow.measure.cases import Case, cases_of, values_of
from loomax.agents.workflow.profile import Measurement, Profile, StageProfile
from loomax.runtime.aot import (
    estimate_options,
    estimated_seconds,
    report,
    topology_mesh,
    uncached,
)
from loomax.runtime.kept import recall, remember


@dataclass(frozen=True)
class Measured:
    """A profile and how far to trust it.

    Args:
        source: "measured", or "estimate" where the seconds are the compiler's own roofline, loops
            multiplied out (`loomax.runtime.aot.estimated_seconds`), and only the bytes are facts.
        errors: of each stage, the largest relative error of its fit at a measured point.
        cached: measurements that were on disk.
    """

    profile: Profile
    source: Literal["measured", "estimate"]
    errors: dict[str, float]
    cached: int


def measure(
    program: Callable,
    *inputs: PyTree,
    batch: int,
    microbatches: Sequence[int] = (1, 2, 4),
    devices: Sequence[jax.Device] | None = None,
    rounds: int = 5,
    folder: Path | None = None,
) -> Measured:
    """Profiles each stage, and each cycle as it runs, on the devices at hand.

    Everything is compiled and run once; then all sizes of all stages take turns, `rounds` times,
    and the median of each counts. Stages that are not JAX are not cached.

    Args:
        inputs: arrays, with which the program is run once; zeros stand in for shapes.
        batch: items of one iteration.
        microbatches: into how many parts a batch is cut.
        devices: the largest group; smaller ones are its first 1, 2, 4, ...
        rounds: how often each is timed.
        folder: of the cache; by default `cache_folder("workflow")`.

    Raises:
        ValueError: no round, or no size that some stage can run at.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: measure at least once")
    devices = jax.devices() if devices is None else devices
    recorded = record(program, *inputs)
    layout = layout_of(recorded, batch)
    cases = _checked(cases_of(recorded, layout, microbatches, devices), batch)
    kind = devices[0].device_kind
    files = {i: _file(case, kind, rounds, folder) for i, case in enumerate(cases)}
    found = {i: known for i, path in files.items() if (known := recall(path, Measurement))}
    left = [i for i in files if i not in found]
    if left:
        values = values_of(recorded, inputs)
        given = {i: cases[i].inputs(values, layout) for i in left}
        seconds = _take_turns({i: (cases[i], given[i]) for i in left}, rounds)
        for i in left:
            found[i] = _measurement(cases[i], seconds[i], _peak_bytes(cases[i]))
            remember(files[i], found[i])
    return _measured(kind, cases, found, "measured", len(cases) - len(left))


def estimate(
    program: Callable,
    *inputs: PyTree,
    batch: int,
    topology: str,
    microbatches: Sequence[int] = (1, 2, 4),
    folder: Path | None = None,
) -> Measured:
    """The same from the TPU compiler, for devices that need not be here; nothing runs.

    Args:
        inputs: arrays or shapes.
        topology: for example "v5e:2x2".

    Raises:
        ValueError: there is no such topology, libtpu is missing, a stage is not JAX, or no size
            fits.
    """
    devices = list(topology_mesh(topology).devices.flat)
    recorded = record(program, *inputs)
    layout = layout_of(recorded, batch)
    cases = _checked(cases_of(recorded, layout, microbatches, devices), batch)
    options = estimate_options(topology.partition(":")[0])
    kind, found, cached = devices[0].device_kind, {}, 0
    for i, case in enumerate(cases):
        if isinstance(case.work, HostCall):
            raise ValueError(f"stage {case.name!r} is not JAX: it can be measured, not estimated")
        path = _file(case, kind, 0, folder)
        known = recall(path, Measurement)
        cached += known is not None
        if known is None:
            with uncached():
                compiled = case.work.lower().compile(compiler_options=options)
            known = _measurement(case, estimated_seconds(compiled), report(compiled).peak_bytes)
            remember(path, known)
        found[i] = known
    return _measured(kind, cases, found, "estimate", cached)


def _checked(cases: list[Case], batch: int) -> list[Case]:
    if not cases:
        raise ValueError(f"a batch of {batch} divides into none of the microbatches: give others")
    return cases


def _file(case: Case, kind: str, rounds: int, folder: Path | None) -> Path | None:
    if isinstance(case.work, HostCall):
        return None
    text = case.work.lower().as_text()
    return file_of(text, kind, case.devices, rounds, folder)


def _take_turns(cases: dict[int, tuple[Case, Values]], rounds: int) -> dict[int, float]:
    """Median seconds of each case; the first round warms up."""
    spent: dict[int, list[float]] = {i: [] for i in cases}
    for _ in range(rounds + 1):
        for i, (case, given) in cases.items():
            values = dict(given)
            for var, x in given.items():
                if not isinstance(case.work, HostCall):
                    values[var] = jax.device_put(x, case.work.places[var])
            jax.block_until_ready(list(values.values()))
            start = time.perf_counter()
            case.work(values)
            jax.block_until_ready([values[var] for var in case.step.outs])
            spent[i].append(time.perf_counter() - start)
    return {i: statistics.median(times[1:]) for i, times in spent.items()}


def _peak_bytes(case: Case) -> int | None:
    """Of its program on one device; None of what is not JAX."""
    if isinstance(case.work, HostCall):
        return None
    return report(case.work.lower().compile()).peak_bytes


def _measurement(case: Case, seconds: float, peak_bytes: int | None) -> Measurement:
    resident = case.resident_bytes
    working = case.io_bytes if peak_bytes is None else max(0, peak_bytes - resident)
    return Measurement(case.batch, case.devices, seconds, resident, working)


def _measured(
    kind: str,
    cases: list[Case],
    found: dict[int, Measurement],
    source: Literal["measured", "estimate"],
    cached: int,
) -> Measured:
    stages: dict[str, list[Measurement]] = {}
    for i, case in enumerate(cases):
        stages.setdefault(case.name, []).append(found[i])
    rows = {name: StageProfile(tuple(measured)) for name, measured in stages.items()}
    profile = Profile(kind, rows, source)
    errors = {name: fit(stage).error for name, stage in profile.stages.items()}
    return Measured(profile, source, errors, cached)
