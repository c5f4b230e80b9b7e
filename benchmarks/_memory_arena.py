"""What do planned buffers save a training step on CPU?  Part of: loomax bench memory

An MLP's training step (batch 32,768: 129 MiB of temporaries, which XLA:CPU takes anew in every
call) in three processes that take turns, and have to give the same losses:

    arena        recorded for some steps, planned, and served from the plan (`loomax.memory.arena`)
    glibc        glibc as it is
    glibc-tuned  with `loomax.runtime.malloc`, as loomax's own programs run

Rows: arena/cpu_s (user and system time of a step, all threads), arena/faults (page faults a step;
below 1 counts as 1 in the ratio), and arena/rss_over_plan: growth of the process's resident
memory since the plan was made, over the plan's bytes.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks._rows import Row, compare, device_name
from loomax.jaxlib_ext import arena
from loomax.jaxlib_ext.arena import ArenaOptions
from loomax.memory.arena.plan_file import plan_log, write_plan
from loomax.memory.lifetimes.log_file import read_log
from loomax.runtime.malloc import keep_large_blocks, tuned_by_user

BENCH, CASE = "memory", "arena"
PEERS = ["glibc", "glibc-tuned"]
ROOT = Path(__file__).resolve().parent.parent
WIDTHS = (64, 256, 256, 256, 8)
# Recorded, and then until the plan is in use: a plan's loop may be twelve steps long.
RECORDED, SETTLING = 20, 30
RATE = 0.01


def step(params: list[jax.Array], x: jax.Array, y: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    """One step of gradient descent."""

    def loss(params):
        h = x
        for w in params[:-1]:
            h = jnp.tanh(h @ w)
        return jnp.mean((h @ params[-1] - y) ** 2)

    value, slopes = jax.value_and_grad(loss)(params)
    return [w - RATE * slope for w, slope in zip(params, slopes, strict=True)], value


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def under_plan(run: Callable[[int], Any]) -> tuple[int, int]:
    """Records steps, plans them and starts the arena.

    Returns:
        The plan's bytes, and those resident before it started.
    """
    with tempfile.TemporaryDirectory() as folder:
        log, path = Path(folder) / "log.jsonl", Path(folder) / "plan.json"
        arena.start(ArenaOptions(log=log))
        run(RECORDED)
        arena.stop()
        plan = plan_log(read_log(log))
        write_plan(plan, path)
        before = resident()
        arena.start(ArenaOptions(plan=path))
    return plan.bytes, before


def child(mode: str, batch: int, steps: int) -> None:
    """One process: a line of JSON for each line that it reads."""
    if mode == "glibc-tuned":
        keep_large_blocks()
    *keys, last = jax.random.split(jax.random.key(0), len(WIDTHS) + 1)
    shapes = list(zip(WIDTHS, WIDTHS[1:], strict=False))
    draw = jax.nn.initializers.lecun_normal()
    params = [draw(key, shape) for key, shape in zip(keys, shapes, strict=False)]
    x = jax.random.normal(keys[-1], (batch, WIDTHS[0]))
    y = jax.random.normal(last, (batch, WIDTHS[-1]))
    compiled = jax.jit(step).lower(params, x, y).compile()
    held = {"params": params, "loss": jnp.zeros(())}

    def run(count: int) -> None:
        for _ in range(count):
            made = compiled(held["params"], x, y)
            held["params"], held["loss"] = jax.block_until_ready(made)

    run(2)
    planned, before = 0, 0
    if mode == CASE:
        planned, before = under_plan(run)
    else:
        run(RECORDED)
    run(SETTLING)
    for _ in sys.stdin:
        start = resource.getrusage(resource.RUSAGE_SELF)
        run(steps)
        end = resource.getrusage(resource.RUSAGE_SELF)
        spent = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
        found = {
            "cpu_s": spent / steps,
            "faults": (end.ru_minflt - start.ru_minflt) / steps,
            "loss": float(held["loss"]),
            "grown": resident() - before,
            "planned": planned,
        }
        print(json.dumps(found), flush=True)


class Child:
    """A process that measures its steps when it is told to."""

    def __init__(self, mode: str, batch: int, steps: int):
        environment = {
            name: value
            for name, value in os.environ.items()
            if not tuned_by_user({name: value}) and name != "LD_PRELOAD"
        }
        words = [sys.executable, "-m", "benchmarks._memory_arena", mode, str(batch), str(steps)]
        self.mode = mode
        self.process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=environment | {"JAX_PLATFORMS": "cpu"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self) -> dict[str, float]:
        """What some steps took.

        Raises:
            RuntimeError: the process has ended.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write("run\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process {self.mode} ended with {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def check_losses(found: dict[str, list[dict[str, float]]]) -> None:
    """Raises RuntimeError if a process has learned something else than ours."""
    for name, turns in found.items():
        for ours, theirs in zip(found[CASE], turns, strict=True):
            if ours["loss"] != theirs["loss"]:
                raise RuntimeError(f"{name} has loss {theirs['loss']}, ours {ours['loss']}")


def measured(batch: int, steps: int, turns: int) -> dict[str, list[dict[str, float]]]:
    """Each process's turns, after a first one that does not count."""
    children = [Child(mode, batch, steps) for mode in (CASE, *PEERS)]
    found: dict[str, list[dict[str, float]]] = {one.mode: [] for one in children}
    try:
        for _ in range(turns + 1):
            for one in children:
                found[one.mode].append(one.measure())
    finally:
        for one in children:
            one.close()
    check_losses(found)
    return {name: turns[1:] for name, turns in found.items()}


def row(metric: str, unit: str, values: Sequence[float], baseline: str | None, ratio: float | None):
    """A row of ours."""
    value, n = statistics.median(values), len(values)
    return Row(BENCH, CASE, metric, value, unit, baseline, ratio, n, device_name(), jax.__version__)


def rows(quick: bool) -> list[Row]:
    """CPU seconds and page faults a step, and memory over the plan; none where it is not built."""
    if not arena.available():
        print("arena: not built here")
        return []
    found = measured(*((12_288, 3, 3) if quick else (32_768, 5, 5)))
    spent = {name: [turn["cpu_s"] for turn in turns] for name, turns in found.items()}
    faults = {name: [turn["faults"] for turn in turns] for name, turns in found.items()}
    fewest = {name: max(statistics.median(values), 1.0) for name, values in faults.items()}
    over = [turn["grown"] / turn["planned"] for turn in found[CASE]]
    return [
        *compare(BENCH, "cpu_s", "s", spent, CASE, PEERS, "lower"),
        *(
            row("faults", "1/step", faults[CASE], peer, fewest[peer] / fewest[CASE])
            for peer in PEERS
        ),
        row("rss_over_plan", "plan", over, None, None),
    ]


if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
