"""A folder whose files are known by size and digest, so that damage is told from an index."""

import hashlib
import json
from pathlib import Path
from typing import Any

SEAL = "files.json"
MOST_BYTES = 16 * 2**20


def seal(folder: Path) -> None:
    """Writes down the files of a folder."""
    held = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, digest(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / SEAL).write_text(json.dumps(held, indent=1), encoding="utf-8")


def verify(folder: Path, *, digests: bool) -> None:
    """Raises ValueError unless all files of a sealed folder are there as they were.

    Args:
        digests: whether to read them, and not only to ask for their sizes.
    """
    for name, (size, told) in _read(folder).items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing")
        if path.stat().st_size != size:
            raise ValueError(f"{path} has {path.stat().st_size} bytes instead of {size}")
        if digests and digest(path) != told:
            raise ValueError(f"{path} is not what was written")


def digest(path: Path) -> str:
    """A digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _read(folder: Path) -> dict[str, tuple[int, str]]:
    path = folder / SEAL
    try:
        with open(path, "rb") as file:
            held: Any = json.loads(file.read(MOST_BYTES))
        read = {str(name): (int(size), str(told)) for name, (size, told) in held.items()}
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ValueError(f"{path} cannot be read") from None
    if not read or any(Path(name).is_absolute() or ".." in Path(name).parts for name in read):
        raise ValueError(f"{path} names no files of its folder")
    return read
