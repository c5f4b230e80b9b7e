"""What a plan runs on. Imports no JAX."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """A pool of equal devices.

    Args:
        kind: of device, as JAX names it: "TPU v5e", "cpu".
        devices: in the pool.
        memory_bytes: of one device.
        link_bytes_per_s: between two disjoint groups of devices, as one stream.
        host_bytes_per_s: between one device and host memory, for swaps.
        local_bytes_per_s: from one program to the next on the same devices. Infinite where arrays
            stay where they are; finite where stages hand over through host memory.
        link_latency_s: of one transfer between groups.
        dispatch_s: added to every call of a compiled program.

    Raises:
        ValueError: no devices, no memory, a bandwidth that is not positive, a negative time.
    """

    kind: str
    devices: int
    memory_bytes: int
    link_bytes_per_s: float
    host_bytes_per_s: float
    local_bytes_per_s: float = math.inf
    link_latency_s: float = 0.0
    dispatch_s: float = 0.0

    def __post_init__(self):
        positive = (
            "devices",
            "memory_bytes",
            "link_bytes_per_s",
            "host_bytes_per_s",
            "local_bytes_per_s",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("link_latency_s", "dispatch_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 0 or more")
