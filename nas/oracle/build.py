"""Filling a latency table, which goes on where it was stopped. Imports no JAX."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from loomax.nas.oracle.reading import Oracle, chain_of
from loomax.nas.oracle.table import (
    Network,
    Table,
    check_origin,
    origin_of,
    read_table,
    write_table,
)
from loomax.nas.sample.graph import distinct_blocks
from loomax.nas.space.arch import Arch
from loomax.nas.space.draw import generator, random_arch
from loomax.nas.space.space import Space
from loomax.runtime.progress import Progress

FITTED, HELD_OUT = 8, 16
# Blocks after which the file is written again.
KEPT = 16


def build_table(
    space: Space,
    name: str,
    oracle: Oracle,
    path: str | Path,
    fitted: int = FITTED,
    held_out: int = HELD_OUT,
    seed: int = 0,
    progress: bool = False,
) -> Table:
    """Measures every block of the space, then whole networks, and keeps all in a file.

    What the file has already is not measured again.

    Args:
        name: of the space.
        fitted: random networks that scale and constant are fitted to.
        held_out: further ones, on which predictions are judged.
        seed: of the networks.

    Raises:
        ValueError: the file is a table of something else, or the oracle refuses; what was
            measured is in the file.
    """
    if fitted < 0 or held_out < 0:
        raise ValueError(f"networks are {fitted} and {held_out}: give 0 or more")
    origin = origin_of(oracle, space, name)
    table = Table(origin)
    if os.path.exists(path):
        table = read_table(path)
        check_origin(path, table.origin, origin)
    table = _measure_blocks(space, oracle, path, table, progress)
    wanted = networks(space, fitted, held_out, seed) if oracle.source != "roofline" else {}
    table = _measure_networks(space, oracle, path, table, wanted, progress)
    write_table(path, table)
    return table


def networks(space: Space, fitted: int, held_out: int, seed: int) -> dict[Arch, bool]:
    """Random networks, and whether each is held out. A small space has fewer."""
    found: dict[Arch, bool] = {}
    for index in range(20 * (fitted + held_out)):
        if len(found) == fitted + held_out:
            break
        found.setdefault(random_arch(space, generator(seed, index)), len(found) >= fitted)
    return found


def _measure_blocks(
    space: Space, oracle: Oracle, path: str | Path, table: Table, progress: bool
) -> Table:
    left = [block for block in distinct_blocks(space) if block not in table.readings]
    readings = dict(table.readings)
    try:
        with Progress(len(left), f"blocks on {oracle.device}", enabled=progress) as bar:
            found = oracle.measure([(block,) for block in left])
            for index, (block, reading) in enumerate(zip(left, found, strict=True)):
                readings[block] = reading
                bar.update(1)
                if (index + 1) % KEPT == 0:
                    write_table(path, replace(table, readings=readings))
    finally:
        write_table(path, replace(table, readings=readings))
    return replace(table, readings=readings)


def _measure_networks(
    space: Space,
    oracle: Oracle,
    path: str | Path,
    table: Table,
    wanted: Mapping[Arch, bool],
    progress: bool,
) -> Table:
    """The table with these networks; whether each is held out follows `wanted`."""
    seconds = {network.arch: network.seconds for network in table.networks}
    left = [arch for arch in wanted if arch not in seconds]

    def filled() -> Table:
        held = wanted.items()
        return replace(
            table,
            networks=tuple(Network(arch, seconds[arch], h) for arch, h in held if arch in seconds),
        )

    with Progress(len(left), f"networks on {oracle.device}", enabled=progress) as bar:
        found = oracle.measure([chain_of(space, arch) for arch in left])
        for arch, reading in zip(left, found, strict=True):
            seconds[arch] = reading.seconds
            write_table(path, filled())
            bar.update(1)
    return filled()
