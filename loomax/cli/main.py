"""`loomax VERB ...`: finds the verb and turns errors of use into one line. Imports no JAX."""

import _thread
import contextlib
import importlib
import io
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from loomax import __version__
from loomax.cli.faults import explain
from loomax.runtime.config import USAGE_ERROR, fail, unknown

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Set for the members of a group, by `loomax.runtime.launch.group`.
LAUNCHED = "LOOMAX_LAUNCHED"

# Seconds that threads of libraries have to end after a fault; some wait for ever for work that
# was broken off, such as those of a checkpoint that was being written.
LAST_S = 5.0

VERBS = {
    "train": "train a policy, or `train lm`; a killed run goes on with --resume",
    "eval": "score a run: its policy on held-out seeds, or `eval perplexity`, `needle`",
    "plan": "`plan memory`: the form of a step that fits; `plan pack`: offsets for buffers",
    "run": "run a program with its large buffers recorded or planned (CPU)",
    "nas": "`nas train`: a supernet; `nas table`, `nas search`: networks for a device",
    "search": "`search index`, `find`, `serve`: documents; `search ask`: an agent on them",
    "serve": "a language model behind OpenAI's API",
    "launch": "one training in several processes: here, by ssh, or as a JobSet on GKE",
    "bench": "run a benchmark and print its rows",
    "aot": "compile for a TPU slice that is not here; print memory, cost and shardings",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    0; 1 where the work itself failed; 2 for wrong use; 3 for a fault of the machine, such as a
    full disk; 130 after Ctrl-C; 143 after SIGTERM. All but 0 come with one line on stderr. Whatever
    else is raised is a defect, and keeps its traceback.
    """
    of_program = argv is None
    if of_program and os.environ.get(LAUNCHED):
        sys.stdout, sys.stderr = (_lasting(number) for number in (1, 2))
    argv = list(sys.argv[1:] if argv is None else argv)
    prog = f"loomax {argv[0]}" if argv and argv[0] in VERBS else "loomax"
    try:
        with _ctrl_c_arrives():
            code = _run(argv, prog)
        sys.stdout.flush()
        return code
    except (Exception, KeyboardInterrupt) as error:
        known = explain(error)
        if known is None or os.environ.get("LOOMAX_DEBUG"):
            raise
        line, code = known
        _silence_stdout()
        if of_program:
            _end_within(LAST_S, code)
        if not line:
            raise SystemExit(code) from None
        fail(prog, line, code)


def _run(argv: list[str], prog: str) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0 if argv else USAGE_ERROR
    if argv[0] == "--version":
        print(f"loomax {__version__}")
        return 0
    verb, rest = argv[0], argv[1:]
    if verb not in VERBS:
        fail(prog, unknown("verb", verb, VERBS))
    importlib.import_module(f"loomax.cli.{verb}").run(rest, prog)
    return 0


class _Lasting(io.FileIO):
    """A pipe that takes what is written also when its reader is gone."""

    def write(self, data: "ReadableBuffer") -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(memoryview(data).cast("B"))


def _lasting(descriptor: int) -> io.TextIOWrapper:
    """Members of a group save and stop when `loomax launch`, which reads them, is killed."""
    raw = _Lasting(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), errors="backslashreplace", line_buffering=True, write_through=True
    )


@contextlib.contextmanager
def _ctrl_c_arrives() -> Iterator[None]:
    """A Ctrl-C that fell into a callback, of which Python drops exceptions, comes once more."""
    before = sys.unraisablehook

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        if dropped.exc_type is KeyboardInterrupt:
            # Not here: this is such a callback, too.
            again = threading.Timer(0.05, _thread.interrupt_main)
            again.daemon = True
            again.start()
        else:
            before(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _end_within(seconds: float, code: int) -> None:
    """Ends this process after some time, whatever still runs in it."""
    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()


def _silence_stdout() -> None:
    """What is still buffered for a reader that is gone, or a full disk, is dropped quietly."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _help() -> str:
    rows = [f"  {verb:<8}{text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "usage: loomax VERB [OPTIONS]    (loomax VERB --help lists the options)",
            "",
            *rows,
            "",
            "  --version",
            "",
            "LOOMAX_CACHE=DIR keeps compiled programs in DIR; LOOMAX_DEBUG=1 shows tracebacks.",
        ]
    )
