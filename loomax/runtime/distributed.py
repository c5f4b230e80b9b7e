"""Several processes as one program."""

import os

import jax


def initialize_distributed(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Joins this process to the others. Does nothing when there is only one.

    What is not given is read from $LOOMAX_COORDINATOR (host:port), $LOOMAX_PROCESSES and
    $LOOMAX_PROCESS. On a TPU pod nothing need be given: with more than one name in
    $TPU_WORKER_HOSTNAMES JAX finds the others itself.

    Raises:
        ValueError: some of the three are given and others are missing, or they contradict.
    """
    coordinator = coordinator or os.environ.get("LOOMAX_COORDINATOR")
    processes = _number(processes, "LOOMAX_PROCESSES")
    process = _number(process, "LOOMAX_PROCESS")
    if coordinator is None and processes in (None, 1):
        if "," in os.environ.get("TPU_WORKER_HOSTNAMES", ""):
            jax.distributed.initialize()
        return
    if processes == 1:
        return
    if coordinator is None or processes is None or process is None:
        raise ValueError(
            f"coordinator {coordinator!r}, processes {processes}, process {process}: give all three"
            " (LOOMAX_COORDINATOR=host:port, LOOMAX_PROCESSES, LOOMAX_PROCESS) or none"
        )
    if processes < 1 or not 0 <= process < processes:
        raise ValueError(f"process {process} of {processes}: must be from 0 to processes - 1")
    jax.distributed.initialize(coordinator, processes, process)


def leads() -> bool:
    """Whether this is the process that prints and writes for all."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """Prints a line from the first process only."""
    if leads():
        print(text, flush=True)


def _number(value: int | None, variable: str) -> int | None:
    if value is not None or variable not in os.environ:
        return value
    try:
        return int(os.environ[variable])
    except ValueError:
        raise ValueError(f"${variable} is {os.environ[variable]!r}: must be a number") from None
