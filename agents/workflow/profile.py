"""What stages cost, as measured: records, and their file. Imports no JAX."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from loomax.runtime.config import unknown
from loomax.runtime.files import atomic_write

VERSION = 1
SOURCES = ("measured", "estimate")


@dataclass(frozen=True)
class Measurement:
    """One run of a stage.

    Args:
        batch: items, over all devices.
        devices: that shared it.
        seconds: of one call.
        resident_bytes: per device: parameters and state.
        working_bytes: per device, on top, while it runs: inputs, outputs and temporaries.

    Raises:
        ValueError: no items or devices, a time that is not positive, negative bytes.
    """

    batch: int
    devices: int
    seconds: float
    resident_bytes: int = 0
    working_bytes: int = 0

    def __post_init__(self):
        for name in ("batch", "devices", "seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("resident_bytes", "working_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 0 or more")


@dataclass(frozen=True)
class StageProfile:
    """What is known about a stage.

    Args:
        transfer_bytes_per_item: of its output, where that differs from what the graph says.

    Raises:
        ValueError: no measurement, or two of one batch and device count.
    """

    measurements: tuple[Measurement, ...]
    transfer_bytes_per_item: float | None = None

    def __post_init__(self):
        if not self.measurements:
            raise ValueError("no measurement: profile at least one batch size")
        at = [(found.batch, found.devices) for found in self.measurements]
        for pair in at:
            if at.count(pair) > 1:
                raise ValueError(
                    f"batch {pair[0]} on {pair[1]} devices was measured twice: keep one"
                )


@dataclass(frozen=True)
class Profile:
    """Stages by name, on one kind of device.

    Args:
        source: "measured", or "estimate" where the seconds are the compiler's own.

    Raises:
        ValueError: another source.
    """

    device_kind: str
    stages: Mapping[str, StageProfile]
    source: str = "measured"

    def __post_init__(self):
        if self.source not in SOURCES:
            raise ValueError(unknown("source", self.source, SOURCES))

    def stage(self, name: str) -> StageProfile:
        """The profile of a stage.

        Raises:
            ValueError: the stage was not profiled.
        """
        if name not in self.stages:
            raise ValueError(f"{unknown('stage', name, self.stages)}; or profile it")
        return self.stages[name]


def write_profile(profile: Profile, path: str | Path) -> None:
    """Writes a profile as JSON."""
    atomic_write(path, json.dumps({"version": VERSION, **asdict(profile)}, indent=1) + "\n")


def read_profile(path: str | Path, device_kind: str) -> Profile:
    """The profile in a file, for a kind of device.

    Raises:
        ValueError: the file is missing or broken, of another version, or from other devices.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    try:
        return _profile(data, device_kind)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _profile(data: Any, device_kind: str) -> Profile:
    if isinstance(data, dict):
        # Files from before there was a source hold measurements.
        data = {"source": "measured", **data}
    data = _object(data, ("version", "device_kind", "stages", "source"), "profile")
    if data["version"] != VERSION:
        raise ValueError(f"version {data['version']!r}, known is {VERSION}: profile again")
    if data["device_kind"] != device_kind:
        raise ValueError(
            f"measured on {data['device_kind']!r}, asked for {device_kind!r}: profile on that"
        )
    stages = {}
    for name, value in _object(data["stages"], None, "stages").items():
        try:
            stages[name] = _stage(value)
        except ValueError as error:
            raise ValueError(f"stage {name!r}: {error}") from error
    return Profile(device_kind, stages, data["source"])


def _stage(value: Any) -> StageProfile:
    value = _object(value, ("measurements", "transfer_bytes_per_item"), "stage")
    if not isinstance(value["measurements"], list):
        raise ValueError("measurements is not a list")
    known = [field.name for field in fields(Measurement)]
    found = []
    for item in value["measurements"]:
        item = _object(item, known, "measurement")
        for name, number in item.items():
            kind = int | float if name == "seconds" else int
            if not isinstance(number, kind) or isinstance(number, bool):
                raise ValueError(f"{name} is {number!r}: it must be a number")
        found.append(Measurement(**item))
    return StageProfile(tuple(found), value["transfer_bytes_per_item"])


def _object(value: Any, known: Any, what: str) -> dict[str, Any]:
    """`value` if it is an object with exactly the known fields."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object")
    for name in value if known else ():
        if name not in known:
            raise ValueError(unknown("field", name, known))
    for name in known or ():
        if name not in value:
            raise ValueError(f"{what} has no {name!r}")
    return value
