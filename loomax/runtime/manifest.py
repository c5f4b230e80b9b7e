"""The manifest of a checkpoint: what its files must be, and what its own bytes must be.

Imports no JAX.
"""

import json
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

FILE = "manifest.json"
# The field with the CRC-32 of the others.
SEAL = "crc32"
FIELDS = {"step", "leaves", "files"}
# A leaf takes about a hundred bytes; models have at most some ten thousand leaves.
MOST_BYTES = 2**28


class Damaged(Exception):
    """A checkpoint is not what was written."""


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """With a checksum of its own."""
    return manifest | {SEAL: _seal(manifest)}


def checked_manifest(folder: Path) -> dict[str, Any]:
    """The manifest in `folder`, once it and all files that it names have proved to be whole.

    Raises:
        Damaged: they are not.
    """
    manifest = _read(folder / FILE)
    for name, (size, checksum) in manifest["files"].items():
        path = folder / name
        try:
            if not path.is_file():
                raise Damaged(f"{name} is missing")
            if path.stat().st_size != size:
                raise Damaged(f"{name} has {path.stat().st_size} bytes, not {size}")
            if _crc(path) != checksum:
                raise Damaged(f"{name} has changed since it was written")
        except OSError as error:
            raise Damaged(f"{name} cannot be read ({error})") from None
    return manifest


def checksums(folder: Path) -> dict[str, list[int]]:
    """Size and CRC-32 of every file below `folder`."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): [path.stat().st_size, _crc(path)] for path in files}


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise Damaged(f"{FILE} is longer than {MOST_BYTES} bytes")
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"{FILE} cannot be read ({error})") from None
    if not isinstance(manifest, dict) or set(manifest) - {SEAL} != FIELDS:
        raise Damaged(f"{FILE} has other fields than {', '.join(sorted(FIELDS))}")
    if SEAL in manifest:
        if manifest[SEAL] != _seal({name: manifest[name] for name in FIELDS}):
            raise Damaged(f"{FILE} has changed since it was written")
    elif not _is_plain(manifest):
        raise Damaged(f"{FILE} holds what no checkpoint has")
    return manifest


def _seal(manifest: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())


def _is_plain(manifest: dict[str, Any]) -> bool:
    """Whether a manifest without a checksum has the types that one has."""
    leaves, files = manifest["leaves"], manifest["files"]
    if not isinstance(leaves, dict) or not isinstance(files, dict):
        return False
    return all(map(_is_leaf, leaves.values())) and all(map(_is_file, files.items()))


def _is_leaf(leaf: Any) -> bool:
    if not isinstance(leaf, dict) or not {"shape", "dtype"} <= set(leaf) <= _LEAF:
        return False
    shape = leaf["shape"]
    names = [leaf["dtype"], leaf.get("impl", "")]
    return _are_counts(shape) and all(isinstance(name, str) for name in names)


def _is_file(item: tuple[str, Any]) -> bool:
    name, said = item
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts
    return inside and "\0" not in name and _are_counts(said) and len(said) == 2


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _crc(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while chunk := file.read(2**22):
            value = zlib.crc32(chunk, value)
    return value


_LEAF = {"shape", "dtype", "impl"}
