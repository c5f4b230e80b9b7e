"""Measurements on disk, by the program and the kind of device that they are of."""

import hashlib
from pathlib import Path

import jax

from loomax.runtime.compile import cache_folder

VERSION = 2


def file_of(text: str, kind: str, devices: int, rounds: int, folder: Path | None = None) -> Path:
    """Where a program's measurement lies.

    Args:
        text: of the lowered program: with it everything that it computes changes the name.
        rounds: that were measured; 0 for an estimate.
    """
    parts = (str(VERSION), jax.__version__, kind, str(devices), str(rounds), text)
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    return (folder or cache_folder("workflow")) / f"{name}.json"
