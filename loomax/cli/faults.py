"""What a fault is called on the command line: one line, and an exit code. Imports no JAX."""

import errno
import sys

from loomax.runtime.config import USAGE_ERROR

# What the work itself came to: no answer, more than is allowed, numbers that are not finite.
FAILED = 1
# Of the machine: the same command may succeed later, or elsewhere.
MACHINE_ERROR = 3
# As shells have them: 128 + SIGINT, 128 + SIGPIPE.
INTERRUPTED, BROKEN_PIPE = 130, 141

# A place that was named wrongly stays wrong; everything else of an OSError is the machine's.
_OF_USE = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
    errno.EROFS,
    errno.ELOOP,
    errno.ENXIO,
    errno.EINVAL,
}


def explain(error: BaseException) -> tuple[str, int] | None:
    """(line, exit code) of a fault that is expected; None for what is a defect of the program."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return "", BROKEN_PIPE
    if isinstance(error, OSError):
        return _os_line(error), USAGE_ERROR if error.errno in _OF_USE else MACHINE_ERROR
    if isinstance(error, MemoryError):
        return "not enough memory: make the sizes smaller", MACHINE_ERROR
    if isinstance(error, RecursionError):
        return "what was given is nested too deeply: flatten it", USAGE_ERROR
    if isinstance(error, OverflowError):
        return f"a number is too large: {error}", USAGE_ERROR
    if isinstance(error, FloatingPointError):
        return str(error), FAILED
    if isinstance(error, ValueError):
        return str(error), USAGE_ERROR
    if _is_of_device(error):
        return f"not enough memory on the device: {error}", MACHINE_ERROR
    return None


def _os_line(error: OSError) -> str:
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno == errno.ENOSPC:
        reason += " (free some, then run the same command again)"
    return ": ".join([*names, reason])


def _is_of_device(error: BaseException) -> bool:
    jax = sys.modules.get("jax")
    if jax is None or not isinstance(error, jax.errors.JaxRuntimeError):
        return False
    return "RESOURCE_EXHAUSTED" in str(error)
