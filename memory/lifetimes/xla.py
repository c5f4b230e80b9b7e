"""Lifetimes of a JAX program's buffers, as XLA decided them, from dumps or from compiling it."""

import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

import jax

from loomax.memory.lifetimes.xla_program import XlaProgram, program_of
from loomax.memory.lifetimes.xla_proto import decode_assignment, decode_origins
from loomax.memory.lifetimes.xla_wire import Message
from loomax.runtime.config import unknown

# CPU: NAME.cpu_after_..., GPU: NAME.sm_9.0_gpu_after_..., TPU: NAME.cl_1014260217.after_...
PATTERN = "*after_optimizations.hlo.pb"
MODULE, ASSIGNMENT = 1, 3
NOT_CACHED = "xla_debug_buffer_assignment_show_max"
HOW = "XLA_FLAGS='--xla_dump_to=FOLDER --xla_dump_hlo_as_proto'"


def compile_traced(
    lowered: jax.stages.Lowered, options: Mapping[str, str | int | bool] | None = None
) -> tuple[jax.stages.Compiled, XlaProgram]:
    """A lowered program compiled, with what XLA decided about its memory.

    A compiled program tells offsets only, so XLA is made to dump into a folder that is deleted.

    Args:
        lowered: from `jax.jit(f).lower(...)`.
        options: compiler options, such as {"xla_cpu_scheduler_type": ...}.

    Raises:
        ValueError: the backend writes no dump to this machine, or one that cannot be read.
    """
    try:
        return _compile(lowered, dict(options or {}))
    except _NoDumpError:
        # The program came out of JAX's compilation cache. Its key knows nothing of dumps, but of
        # this: how many buffers a debug message may name.
        fresh = {NOT_CACHED: 15 + secrets.randbelow(2**30)}
        return _compile(lowered, {**(options or {}), **fresh})


class _NoDumpError(ValueError):
    """XLA compiled nothing, or does not dump here."""


def _compile(
    lowered: jax.stages.Lowered, options: Mapping[str, str | int | bool]
) -> tuple[jax.stages.Compiled, XlaProgram]:
    with tempfile.TemporaryDirectory(prefix="loomax-xla-") as folder:
        dump = {"xla_dump_to": folder, "xla_dump_hlo_as_proto": True}
        compiled = lowered.compile(compiler_options={**options, **dump})
        files = [path for path in Path(folder).glob(PATTERN) if _has_buffers(path)]
        if not files:
            raise _NoDumpError("the backend dumps no buffer assignment: use cpu, tpu or gpu")
        # Helper programs, such as what is timed to tune a kernel, are smaller.
        return compiled, read_program(max(files, key=lambda path: path.stat().st_size))


def _has_buffers(path: Path) -> bool:
    return bool(Message(path.read_bytes(), str(path)).messages(ASSIGNMENT, "buffer assignment"))


def read_dump(path: str | Path, module: str = "") -> XlaProgram:
    """The program in a dump.

    Args:
        path: a file `*after_optimizations.hlo.pb`, or the folder that `--xla_dump_to` names.
        module: which program of the folder, such as "jit_step"; needed if there are several.

    Raises:
        ValueError: there is no such program, or more than one, or its file is damaged.
    """
    path = Path(path)
    if path.is_file():
        return read_program(path)
    files = dumps_in(path)
    if not module and len(files) == 1:
        return read_program(files[0])
    named = [file for file in files if module_of(file) == module]
    known = sorted({module_of(file) for file in files})
    if not module:
        raise ValueError(f"{path}: {len(files)} programs: name one of {', '.join(known)}")
    if not named:
        raise ValueError(f"{path}: {unknown('program', module, known)}")
    if len(named) > 1:
        names = ", ".join(file.name for file in named)
        raise ValueError(
            f"{path}: {len(named)} programs are called {module!r}: read one of {names}"
        )
    return read_program(named[0])


def dumps_in(folder: str | Path) -> list[Path]:
    """Files of a dump folder that hold a program with its buffers.

    Raises:
        ValueError: there is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such file or folder: dump with {HOW}")
    files = sorted(folder.glob(PATTERN))
    if not files:
        raise ValueError(f"{folder}: no {PATTERN}: dump with {HOW}, set before JAX starts")
    return files


def module_of(path: Path) -> str:
    """Name of the program from a file name: module_0008.jit_step.cpu_after_optimizations.hlo.pb."""
    parts = path.name.split(".")
    return parts[1] if len(parts) > 2 else path.name


def read_program(path: str | Path) -> XlaProgram:
    """The program in one file.

    Raises:
        ValueError: the file cannot be read, is cut off or damaged, or holds no buffers.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    return parse_program(data, str(path))


def parse_program(data: bytes, source: str = "dump") -> XlaProgram:
    """The program in a serialized HloProto.

    Raises:
        ValueError: as `read_program`.
    """
    proto = Message(data, source)
    modules = proto.messages(MODULE, "module")
    assignments = proto.messages(ASSIGNMENT, "buffer assignment")
    if not modules or not assignments:
        missing = "buffer assignment" if modules else "module"
        raise ValueError(
            f"{source}: no {missing}: it is cut off, not a program after optimizations, or one "
            "that came out of JAX's compilation cache"
        )
    assignment = decode_assignment(assignments[0])
    return program_of(assignment, decode_origins(modules[0]), modules[0].text(1), source)
