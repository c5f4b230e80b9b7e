"""Measurements on disk, by the program and the kind of device that they are of."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import jax

from loomax.agents.workflow.profile import Measurement
from loomax.runtime.compile import cache_folder
from loomax.runtime.files import atomic_write

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


def load(path: Path) -> Measurement | None:
    """What is there, None if nothing whole is."""
    try:
        return Measurement(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def save(path: Path, found: Measurement) -> None:
    """Keeps a measurement; a folder that cannot be written costs time, never a run."""
    try:
        atomic_write(path, json.dumps(asdict(found)) + "\n")
    except OSError:
        return
