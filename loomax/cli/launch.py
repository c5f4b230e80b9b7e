"""loomax launch: one training in several processes, here, by ssh, or as a JobSet on GKE."""

import importlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from loomax.runtime.config import fail, parse_options, take_flag, take_option, unknown
from loomax.runtime.options import AtLeastOne, Bound, NotNegative

DESCRIPTION = """Starts one training in several processes.

  loomax launch --processes 2 -- train lm --config lm-debug --name x --resume
  loomax launch --hosts tpu-0 tpu-1 -- train lm --config yoco-3b --name x --resume
  loomax launch --jobset x --topology v5e:4x4 --image IMAGE \\
      -- train lm --config yoco-3b --name x --resume --runs /runs > x.yaml

Without --hosts and --jobset the processes run on this machine. When one fails, all stop, and with
--restarts all start again and go on from the last checkpoint. SIGTERM reaches all: they save and
stop with exit code 143."""


@dataclass(frozen=True)
class LaunchOptions:
    """Where the processes run."""

    processes: Annotated[int, Bound(1, 1024)] = 1
    """on this machine"""
    hosts: tuple[str, ...] = ()
    """one process on each of these, by ssh; the first one coordinates"""
    restarts: NotNegative = 0
    """times that all are started again after one failed"""
    grace: Annotated[float, Bound(0)] = 30.0
    """seconds between SIGTERM and SIGKILL for the others when one failed"""
    folder: str | None = None
    """with --hosts: where to run; default: the path of this folder"""
    program: str = ".venv/bin/loomax"
    """with --hosts: loomax there"""
    ssh: str = "ssh -tt -o BatchMode=yes"
    """with --hosts: how to reach one"""
    print: bool = False
    """only show what would be started"""
    jobset: str | None = None
    """print a JobSet of this name for Google Kubernetes Engine, and start nothing"""
    topology: str = ""
    """with --jobset: a slice, such as v5e:4x4"""
    image: str = ""
    """with --jobset: a container image with loomax (deploy/Dockerfile)"""
    slices: AtLeastOne = 1
    """with --jobset: slices that train together"""
    volume: str = "loomax-runs"
    """with --jobset: a volume claim, or gs://BUCKET, for /runs"""
    service_account: str = "default"
    """with --jobset: of Kubernetes"""


_UNSET = LaunchOptions()


def run(argv: Sequence[str], prog: str) -> None:
    argv = list(argv)
    split = argv.index("--") if "--" in argv else len(argv)
    command = argv[split + 1 :]
    options = parse_options(LaunchOptions, argv[:split], prog, DESCRIPTION)
    if not command:
        fail(prog, "nothing to start: give a command after --, such as -- train --config debug")
    check_options(options, prog)
    shared = len(options.hosts) > 1 or options.processes > 1 or options.jobset is not None
    check_command(command, shared, prog)
    if options.jobset is not None:
        return print_jobset(options, command, prog)
    if (shared or options.restarts) and not goes_on(command, prog):
        fail(prog, "add --name RUN --resume to the command, so that all processes use one run")
    raise SystemExit(start(options, command))


# Options that only one way to start reads.
READ_BY = {
    "hosts": ("folder", "program", "ssh"),
    "jobset": ("topology", "image", "slices", "volume", "service_account"),
}


def check_options(options: LaunchOptions, prog: str) -> None:
    """Refuses values and combinations that would fail later, or never be used."""
    if options.hosts and options.jobset is not None:
        fail(prog, "--hosts and --jobset are two ways to start: give one of them")
    if options.hosts and options.processes > 1:
        fail(
            prog,
            f"--processes {options.processes} is for this machine and --hosts for others, with one "
            "process on each: give one of them",
        )
    for way, names in READ_BY.items():
        for name in names:
            if not getattr(options, way) and getattr(options, name) != getattr(_UNSET, name):
                fail(prog, f"--{name.replace('_', '-')} is read with --{way} only: add that")


def check_command(command: Sequence[str], shared: bool, prog: str) -> None:
    """Refuses what is no command of `loomax`, and with several processes what does not join them.

    Args:
        shared: several processes do one training.
    """
    from loomax.cli.main import VERBS
    from loomax.cli.train import KINDS, take_kind

    verb, rest = command[0], list(command[1:])
    if verb not in VERBS:
        fail(prog, f"behind --: {unknown('verb', verb, VERBS)}")
    if verb == "launch":
        fail(prog, "behind --: launch cannot start itself; give the command that is to run")
    if verb != "train":
        if shared:
            fail(prog, f"behind --: {verb} runs in one process; only train joins several into one")
        return
    kind, rest = take_kind(rest, f"{prog}: train")
    chosen, _ = take_option(rest, "--config", f"{prog}: train")
    configs = importlib.import_module(f"{KINDS[kind]}.presets").CONFIGS
    if chosen is not None and chosen not in configs:
        fail(prog, f"behind --: {unknown('config', chosen, configs)}")


def goes_on(command: Sequence[str], prog: str) -> bool:
    """Whether a command that is started again goes on with its run."""
    name, rest = take_option(command[1:], "--name", f"{prog}: {command[0]}")
    resume, _ = take_flag(rest, "--resume")
    return bool(name) and resume


def start(options: LaunchOptions, command: Sequence[str]) -> int:
    """Starts the processes, again where that was asked for; returns the exit code."""
    from loomax.runtime.launch.group import run_group
    from loomax.runtime.launch.members import local_members, ssh_members

    def members():
        if options.hosts:
            where = {"folder": options.folder, "program": options.program, "ssh": options.ssh}
            return ssh_members(command, options.hosts, **where)
        return local_members(command, options.processes)

    if options.print:
        for member in members():
            words = [f"{name}={value}" for name, value in member.environment.items()]
            print(" ".join([*words, shlex.join(member.argv)]))
        return 0
    for left in range(options.restarts, -1, -1):
        code = run_group(members(), options.grace)
        if code in STOPPED or not left:
            return code
        print(f"loomax launch: exit code {code}; starting again, {left - 1} times left", flush=True)
    return code


# Done, wrong use (again would not help), and told to stop.
STOPPED = (0, 2, 143)


def print_jobset(options: LaunchOptions, command: Sequence[str], prog: str) -> None:
    """The JobSet on the standard output."""
    from loomax.runtime.launch.jobset import JobSetConfig, as_yaml

    for name in ("topology", "image"):
        if not getattr(options, name):
            fail(prog, f"--jobset needs --{name}")
    if not goes_on(command, prog):
        fail(
            prog,
            f"the command is {shlex.join(command)!r}: add --name RUN --resume --runs /runs, so "
            "that a restarted pod goes on with the same run",
        )
    config = JobSetConfig(
        options.jobset or "",
        options.topology,
        options.image,
        slices=options.slices,
        runs=options.volume,
        restarts=options.restarts or JobSetConfig.restarts,
        service_account=options.service_account,
    )
    config.validate()
    if options.processes not in (1, config.hosts * config.slices):
        fail(
            prog,
            f"--processes is {options.processes}, but {config.slices} x {config.topology} has "
            f"{config.hosts * config.slices} hosts with one process each: leave it out",
        )
    sys.stdout.write(as_yaml(config, command))
