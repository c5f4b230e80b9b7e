"""Blocks that are there for the whole call, by what they are for. Imports no JAX."""

from collections import defaultdict

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.xla_program import XlaProgram

LABELS = {
    "donated": "donated",
    "parameter": "parameters",
    "output": "outputs",
    "constant": "constants",
    "temporary": "other blocks",
}


def by_kind(program: XlaProgram) -> dict[str, list[Lifetime]]:
    """Blocks of each kind that there is, the largest first."""
    found: dict[str, list[Lifetime]] = defaultdict(list)
    for record in sorted(program.residents.records, key=lambda record: -record.size):
        found[record.kind].append(record)
    return {kind: found[kind] for kind in LABELS if kind in found}


def bytes_of(program: XlaProgram, *kinds: str) -> int:
    """Bytes of the blocks of these kinds together."""
    return sum(record.size for record in program.residents.records if record.kind in kinds)
