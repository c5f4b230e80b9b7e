"""What a program is compiled for: this CPU, or a TPU slice or GPU that need not be here."""

import importlib.metadata
import os
from dataclasses import dataclass
from typing import Literal

import jax
from jax.sharding import Mesh

from loomax.runtime.aot import HBM_BYTES, hbm_per_device, topology_mesh
from loomax.runtime.axes import MeshConfig
from loomax.runtime.config import unknown
from loomax.runtime.gpu_aot import GPU_BYTES, gpu_mesh
from loomax.runtime.mesh import make_mesh

Platform = Literal["cpu", "tpu", "gpu"]
EXAMPLES = "cpu, tpu:v5e (one chip), v5e:4x4 (a slice), gpu:h100"


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
    parts = name.split(":")
    if parts[0] == "cpu":
        return _cpu(name, parts[1:], config)
    kind = parts.pop(0) if parts[0] in ("tpu", "gpu") else ""
    if parts and kind != "gpu" and parts[0] in HBM_BYTES and len(parts) <= 2:
        shape = parts[1] if len(parts) > 1 else one_chip(parts[0])
        topology = f"{parts[0]}:{shape}"
        mesh = topology_mesh(topology, config)
        return Target(name, "tpu", mesh, hbm_per_device(topology, mesh))
    if parts and kind != "tpu" and parts[0] in GPU_BYTES and len(parts) <= 2:
        return Target(name, "gpu", gpu_mesh(":".join(parts), config), GPU_BYTES[parts[0]])
    known = [*(f"tpu:{generation}" for generation in HBM_BYTES), *(f"gpu:{g}" for g in GPU_BYTES)]
    raise ValueError(f"{unknown('target', name, ['cpu', *known])}; examples: {EXAMPLES}")


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
    if len(rest) > 1 or not all(count.isdecimal() and int(count) for count in rest):
        raise ValueError(f"target {name!r}: write cpu, or cpu:4 for four host devices")
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
