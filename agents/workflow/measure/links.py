"""Bytes a second between the devices at hand, and between them and their host's memory."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from loomax.agents.workflow.execute.layout import mesh_of
from loomax.agents.workflow.execute.move import move
from loomax.agents.workflow.execute.swap import to_host
from loomax.runtime.mesh import replicated

# Large enough that the start of a transfer does not count.
BYTES = 2**26


@dataclass(frozen=True)
class Rates:
    """Bytes a second.

    Args:
        link: from one device to another; None where there is only one.
        host: between a device and host memory, the mean of both ways.
    """

    link: float | None
    host: float


def measure_rates(
    devices: Sequence[jax.Device],
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> Rates:
    """The rates of the first and the last device, moved as plans move: medians of `rounds`.

    Args:
        clock: seconds.
    """
    first, last = (replicated(mesh_of([device])) for device in (devices[0], devices[-1]))
    x = jax.device_put(jnp.zeros(BYTES, jnp.uint8), first)

    def seconds(work: Callable[[], Any]) -> float:
        spent = []
        # The first round compiles and allocates.
        for _ in range(rounds + 1):
            start = clock()
            jax.block_until_ready(work())
            spent.append(clock() - start)
        return statistics.median(spent[1:])

    waiting = to_host(x, free=False)
    both = seconds(lambda: to_host(x, free=False)) + seconds(lambda: move(waiting, first))
    link = None if len(devices) == 1 else BYTES / seconds(lambda: move(x, last))
    return Rates(link, 2 * BYTES / both)
