"""Latency tables: block -> seconds, in versioned JSON. Imports no JAX."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from loomax.nas.oracle.reading import Oracle, Reading
from loomax.nas.space.arch import Arch, from_json, to_json
from loomax.nas.space.blocks import Block, block_fields, block_from
from loomax.nas.space.space import Space
from loomax.runtime.files import atomic_write

FORMAT = "loomax latency table"
VERSION = 1


@dataclass(frozen=True)
class Origin:
    """What the figures of a table are of; tables of another origin are refused.

    Args:
        device, source, dtype, batch, version: of the oracle.
        space: its name.
        space_hash: of all that the space may choose.
    """

    device: str
    source: str
    dtype: str
    batch: int
    version: str
    space: str
    space_hash: str


@dataclass(frozen=True)
class Network:
    """A whole network that was measured, to fit scale and constant or to judge them."""

    arch: Arch
    seconds: float
    held_out: bool


@dataclass(frozen=True)
class Table:
    """Latencies of blocks, and of some whole networks.

    Args:
        readings: of each block that was measured so far.
        networks: those that were measured.
    """

    origin: Origin
    readings: Mapping[Block, Reading] = field(default_factory=dict)
    networks: tuple[Network, ...] = ()


def space_hash(space: Space) -> str:
    """Changes with anything that a space may choose."""
    return hashlib.sha256(repr(space).encode()).hexdigest()[:16]


def origin_of(oracle: Oracle, space: Space, name: str) -> Origin:
    """The origin of a table that `oracle` fills for a space called `name`."""
    return Origin(
        oracle.device,
        oracle.source,
        oracle.dtype,
        oracle.batch,
        oracle.version,
        name,
        space_hash(space),
    )


def write_table(path: str | Path, table: Table) -> None:
    """Writes the table, whole or not at all."""
    blocks = [block_fields(block) | reading._asdict() for block, reading in table.readings.items()]
    networks = [
        {"arch": json.loads(to_json(n.arch)), "seconds": n.seconds, "held_out": n.held_out}
        for n in table.networks
    ]
    head = {"format": FORMAT, "version": VERSION, "origin": asdict(table.origin)}
    lines = [
        json.dumps(head)[:-1] + ',\n"blocks": [',
        ",\n".join(json.dumps(row) for row in blocks),
        '],\n"networks": [',
        ",\n".join(json.dumps(row) for row in networks),
        "]}",
    ]
    atomic_write(path, "\n".join(lines) + "\n")


def read_table(path: str | Path) -> Table:
    """Reads what `write_table` wrote.

    Raises:
        ValueError: there is no such file, or it is not a table of this version.
    """
    try:
        read = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"cannot read the latency table {path}: {reason}") from error
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        raise ValueError(f"{path} is not a latency table: give what `loomax nas table` wrote")
    if read.get("version") != VERSION:
        raise ValueError(
            f"{path} is a latency table of version {read.get('version')}, and this is version"
            f" {VERSION}: make it again with `loomax nas table`"
        )
    try:
        readings = {}
        for row in read["blocks"]:
            seconds, noise = row.pop("seconds"), row.pop("noise")
            readings[block_from(row)] = Reading(float(seconds), float(noise))
        networks = tuple(
            Network(from_json(json.dumps(row["arch"])), float(row["seconds"]), row["held_out"])
            for row in read["networks"]
        )
        return Table(Origin(**read["origin"]), readings, networks)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is a damaged latency table ({error}): make it again") from error


def check_origin(
    path: str | Path, found: Origin, wanted: Origin, but: tuple[str, ...] = ()
) -> None:
    """Checks that a table is of what is asked for.

    Args:
        but: names of fields that may differ.

    Raises:
        ValueError: names the first difference.
    """
    for name, value in asdict(wanted).items():
        # A name is for people: the hash says whether it is the same space.
        if name not in ("space", *but) and getattr(found, name) != value:
            raise ValueError(_difference(path, name, found, wanted))


def _difference(path: str | Path, name: str, found: Origin, wanted: Origin) -> str:
    if name == "space_hash":
        return (
            f"{path} is a table of another space, {found.space!r}: make one of"
            f" {wanted.space!r} with `loomax nas table --space {wanted.space}`"
        )
    return (
        f"{path} is a table with {name} {getattr(found, name)!r}, not {getattr(wanted, name)!r}:"
        " give that one, or another file"
    )
