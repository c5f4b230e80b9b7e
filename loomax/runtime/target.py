"""What a program is compiled for: this CPU, or a TPU slice or GPU that need not be here."""

import importlib.metadata
import os
from dataclasses import dataclass
from typing import Literal

import jax
from jax.sharding import Mesh

from loomax.runtime.aot import hbm_per_device, topology_mesh
from loomax.runtime.axes import MeshConfig
from loomax.runtime.gpu_aot import gpu_mesh
from loomax.runtime.gpus import GPU_BYTES
from loomax.runtime.mesh import make_mesh
from loomax.runtime.topology import check_target

Platform = Literal["cpu", "tpu", "gpu"]


@dataclass(frozen=True)
class Target:
    """Devices to compile for.

    Args:
        name: as it was asked for.
        mesh: the devices; descriptions of devices where they are not here.
        bytes_per_device: memory of one of them.
    """

    name: str
    platform: Platform
    mesh: Mesh
    bytes_per_device: int

    @property
    def kind(self) -> str:
        """What the devices are called, and how many there are."""
        return f"{self.mesh.size} x {self.mesh.devices.flat[0].device_kind}"

    @property
    def compiler(self) -> str:
        """Version of the compiler that is not part of jaxlib."""
        package = {"tpu": "libtpu", "gpu": "jax-cuda13-pjrt"}.get(self.platform)
        try:
            return importlib.metadata.version(package) if package else ""
        except importlib.metadata.PackageNotFoundError:
            return ""


def parse_target(name: str, config: MeshConfig | None = None) -> Target:
    """The target called `name`.

    "cpu" is one device of this machine and "cpu:4" four, "tpu:v5e" one chip, "v5e:4x4" or
    "tpu:v5e:4x4" a slice, "gpu:h100" one GPU and "gpu:h100:8" eight.

    Args:
        config: how the devices form a mesh.

    Raises:
        ValueError: there is no such target, or what compiles for it is not installed.
    """
    platform, parts = check_target(name), name.split(":")
    if platform == "cpu":
        return _cpu(name, parts[1:], config)
    parts = parts[1:] if parts[0] == platform else parts
    if platform == "tpu":
        topology = ":".join(parts if len(parts) > 1 else (parts[0], one_chip(parts[0])))
        mesh = topology_mesh(topology, config)
        return Target(name, "tpu", mesh, hbm_per_device(topology, mesh))
    return Target(name, "gpu", gpu_mesh(":".join(parts), config), GPU_BYTES[parts[0]])


def target_here(config: MeshConfig | None = None) -> Target:
    """All devices of this process's machine."""
    mesh = make_mesh(config or MeshConfig())
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        return Target("cpu", "cpu", mesh, _machine_bytes() // mesh.size)
    told = device.memory_stats() or {}
    return Target(device.device_kind, device.platform, mesh, told.get("bytes_limit", 0))


def one_chip(generation: str) -> str:
    """Shape of the smallest slice of a generation."""
    return "1x1x1" if generation in ("v4", "v5p") else "1x1"


def _cpu(name: str, rest: list[str], config: MeshConfig | None) -> Target:
    wanted, devices = int(rest[0]) if rest else 1, jax.devices("cpu")
    if wanted > len(devices):
        raise ValueError(
            f"target {name!r}: JAX runs with {len(devices)} host devices: call "
            f"loomax.runtime.compile.setup_cpu(devices={wanted}) before anything else"
        )
    mesh = make_mesh(config or MeshConfig(), devices[:wanted])
    return Target(name, "cpu", mesh, _machine_bytes() // wanted)


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
