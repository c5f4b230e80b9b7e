"""How much memory do allocators waste on programs that run?  Part of: loomax bench memory

The arena records what two programs of several executables take from libc on CPU, each in a process
of its own; what was there before is not in the trace:

    rl-loop   iterations of PPO on the point mass as a Python loop over compiled pieces
              (benchmarks/rl_step.py). Iterations repeat, so all is planned.
    serving   a small Transformer that answers requests which come at random, with prompts and
              answers of random lengths: prefill by bucket, then all active requests decode in
              turn, each with a cache of its own. Nothing is known ahead and nothing is planned.
              "planned ahead" knows all of it.

Then the traces are replayed: by ours, and by PyTorch's and XLA's allocators, restated
(docs/memory.md), with what they reserve without a limit; BFC, which takes all of its capacity at
once, with the least capacity that works. Sizes count in multiples of 512 bytes.

One recording of requests hangs on a few moments, so that streams of requests with many seeds
(`_memory_streams.py`) are served as well.

Rows: trace-rl-loop/fragmentation and trace-serving/fragmentation, 1 - lower bound / reserved, and
those of the streams.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _memory_streams
from benchmarks._memory_streams import ALIGNMENT, online
from benchmarks._memory_traces import PEERS, one_region, row
from benchmarks._rows import Row
from loomax.jaxlib_ext import arena
from loomax.jaxlib_ext.arena import ArenaOptions
from loomax.memory.allocator.protocol import MIB
from loomax.memory.allocator.replay import least_capacity, replay
from loomax.memory.lifetimes.log_file import read_log
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.pack import pack
from loomax.memory.planner.plan import check_plan
from loomax.runtime.compile import setup_cpu

ROOT = Path(__file__).resolve().parent.parent
THRESHOLD = 512
BUCKETS = (32, 64, 128, 256)
PACK = PackConfig(seconds=20.0, gap=1e-4)


def run_rl_loop(quick: bool, log: Path) -> None:
    """Records iterations after two that compile."""
    from benchmarks.rl_step import SeparateJits
    from loomax.agents.rl.mlp_config import MLPPolicyConfig
    from loomax.agents.rl.toy import point_mass

    config = point_mass()
    rl = replace(config.rl, rollout=replace(config.rl.rollout, envs=32 if quick else 256, calls=4))
    policy = MLPPolicyConfig(horizon=config.rl.rollout.chunk, width=16 if quick else 128)
    loop = SeparateJits(replace(config, rl=rl, policy=policy))

    def iterate(count: int) -> None:
        for _ in range(count):
            loop.state = jax.block_until_ready(loop.iterate())

    iterate(2)
    arena.start(ArenaOptions(log=log, threshold=THRESHOLD))
    iterate(2 if quick else 3)
    arena.stop()


@dataclass
class Request:
    """One request and its cache."""

    bucket: int
    left: int
    token: Any = None
    cache: Any = None


def requests(count: int, seed: int) -> list[Request]:
    """Prompts and answers of random lengths; each fits into its bucket."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        bucket = int(draw.choice(BUCKETS, p=(0.4, 0.3, 0.2, 0.1)))
        found.append(Request(bucket, int(draw.integers(2, bucket // 2))))
    return found


def run_serving(quick: bool, log: Path) -> None:
    """Records requests, after one of each bucket that compiles."""
    from loomax.models.lm import generate
    from loomax.models.lm.modules import create
    from loomax.models.lm.presets import transformer_tiny

    config = transformer_tiny()
    params = create(config, key=jax.random.key(0))
    answer = jax.jit(lambda p, cache, token: generate.decode(config, p, cache, token))
    begin = {
        bucket: jax.jit(
            lambda p, tokens, count, slots=bucket: generate.prefill(
                config, p, tokens, count, slots=slots
            )
        )
        for bucket in BUCKETS
    }

    def serve(waiting: list[Request], most: int, draw: np.random.Generator) -> None:
        active: list[Request] = []
        while waiting or active:
            if waiting and len(active) < most and (not active or draw.random() < 0.5):
                new = waiting.pop()
                tokens = jnp.zeros((1, new.bucket), jnp.int32)
                count = jnp.full((1,), new.bucket // 2, jnp.int32)
                scores, new.cache = begin[new.bucket](params, tokens, count)
                new.token = jnp.argmax(scores, -1)
                active.append(new)
            for one in active:
                scores, one.cache = answer(params, one.cache, one.token)
                one.token = jax.block_until_ready(jnp.argmax(scores, -1))
                one.left -= 1
            active = [one for one in active if one.left > 0]

    draw = np.random.default_rng(0)
    serve([Request(bucket, 2) for bucket in BUCKETS], 4, draw)
    arena.start(ArenaOptions(log=log, threshold=THRESHOLD))
    serve(requests(8 if quick else 40, seed=1), 8, draw)
    arena.stop()


PROGRAMS = {"rl-loop": run_rl_loop, "serving": run_serving}


def record(name: str, quick: bool) -> Trace:
    """The trace of one program, which runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        words = [sys.executable, "-m", "benchmarks._memory_recorded", name, str(int(quick))]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        subprocess.run([*words, str(log)], cwd=ROOT, env=environment, check=True)
        return aligned(read_log(log))


def aligned(trace: Trace) -> Trace:
    """With offsets and sizes in multiples of 512 bytes."""
    records = tuple(replace(record, alignment=ALIGNMENT) for record in trace.records)
    return Trace(records, trace.source)


def planned(trace: Trace) -> int:
    """Bytes of a plan of the whole trace."""
    plan = pack(trace, PACK)
    check_plan(trace, plan.offsets, plan.peak)
    return plan.peak


def fragmentation(name: str, trace: Trace) -> dict[str, float]:
    """Of ours and of the peers."""
    if name == "serving":
        found = {"ours": online(trace), "planned ahead": planned(trace)}
    else:
        found = {"ours": planned(trace)}
    for peer, make in PEERS.items():
        found[peer] = replay(trace, make(None)).reserved
        found[f"{peer} least"] = least_capacity(trace, make, 2 * MIB)
    found["bfc"] = least_capacity(trace, one_region, 256)
    bound = trace.lower_bound
    lost = {one: 1 - bound / taken for one, taken in found.items()}
    shown = ", ".join(f"{one} {100 * value:.2f} %" for one, value in lost.items())
    print(f"{name}: {len(trace.records)} buffers, at least {bound / MIB:.2f} MiB: {shown}")
    return lost


def rows(quick: bool) -> list[Row]:
    """Fragmentation of all traces; of the streams only where the arena is not built."""
    found = _memory_streams.rows(quick)
    if not arena.available():
        print("recorded traces: the arena is not built here")
        return found
    for name in PROGRAMS:
        lost = fragmentation(name, record(name, quick))
        for peer in (*PEERS, "bfc"):
            made = row(f"trace-{name}", "fragmentation", lost["ours"], peer, lost[peer])
            found.append(made)
    return found


if __name__ == "__main__":
    setup_cpu(devices=1)
    PROGRAMS[sys.argv[1]](sys.argv[2] == "1", Path(sys.argv[3]))
