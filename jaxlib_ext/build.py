"""Compiles csrc/*.cc into one shared library with the compiler at hand: no build system.

`python -m loomax.jaxlib_ext.build` is part of the set-up and never fails it: without a compiler
every native function has a twin in JAX or NumPy, and one line says so.

The library carries jaxlib's version in its name: JAX refuses handlers that were built with the
headers of a newer one, and environments with different versions may share this folder.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

ROOM = Path(__file__).resolve().parent
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-Wall")
COMPILERS = ("g++", "clang++", "c++")
# Loaded before programs start, so it is a library of its own.
ARENA = ROOM / "_arena.so"


def library() -> Path:
    """Where the library for the installed jaxlib lies, built or not. Imports no JAX."""
    return ROOM / f"_native-{metadata.version('jaxlib')}.so"


def build(sources: Path = ROOM / "csrc", target: Path | None = None) -> Path | None:
    """Brings `target` (default: `library()`) up to date with `sources` and returns it.

    None when there is nothing.

    The library is replaced in one step, so that a program that starts meanwhile loads the old
    or the new one. It is rebuilt when a source, a header, the compiler or JAX changes.
    """
    target = library() if target is None else target
    files = sorted(sources.glob("*.cc"))
    if not files:
        return _say(f"native: no sources in {sources}, nothing to build")
    compiler = _compiler()
    if compiler is None:
        return _say(f"native: no C++ compiler ({', '.join(COMPILERS)}): the JAX twins are used")
    stamp, state = target.parent / ".stamps" / target.name, _state(sources, compiler)
    if target.exists() and stamp.exists() and stamp.read_text() == state:
        _say(f"native: {target.name} is up to date")
        return target
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    include = ("-I", _jax_headers()[1], "-I", str(sources))
    command = [compiler, *FLAGS, *include, *map(str, files), "-o", str(temporary)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = next(iter(done.stderr.strip().splitlines()), "no message")
            return _say(f"native: {compiler} failed, the JAX twins are used: {reason}")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(state)
    _say(f"native: built {target.name} from {len(files)} files with {compiler}")
    return target


def _jax_headers() -> tuple[str, str]:
    """JAX's version and the folder of its headers."""
    # Imported here: who only loads the library (the command line, say) does not wait for JAX.
    import jax

    return jax.__version__, jax.ffi.include_dir()


def _compiler() -> str | None:
    wanted = os.environ.get("CXX")
    names: Sequence[str] = (wanted,) if wanted else COMPILERS
    return next((path for path in map(shutil.which, names) if path), None)


def _state(sources: Path, compiler: str) -> str:
    digest = hashlib.sha256(f"{compiler} {_jax_headers()[0]} {FLAGS}".encode())
    for path in sorted(path for path in sources.iterdir() if path.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    if build() is not None:
        build(ROOM / "csrc" / "arena", ARENA)
