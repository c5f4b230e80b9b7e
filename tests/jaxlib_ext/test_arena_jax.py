"""The arena under JAX: the same numbers, other shapes in the middle, slots restored."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from loomax.jaxlib_ext import arena
from loomax.jaxlib_ext.arena import ArenaOptions
from loomax.memory.arena.plan_file import ArenaPlan, write_plan
from loomax.memory.lifetimes.log_file import read_log
from tests.jaxlib_ext.environment import without_arena

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = [
    pytest.mark.skipif(not arena.available(), reason="the arena is not built"),
    pytest.mark.multiprocess,
]

PROGRAM = """
import json, sys
import jax, jax.numpy as jnp
from loomax.jaxlib_ext import arena
from loomax.jaxlib_ext.arena import ArenaOptions
from loomax.memory.arena.plan_file import plan_log, write_plan
from loomax.memory.lifetimes.log_file import read_log

folder = sys.argv[1]

@jax.jit
def step(w, x):
    def loss(w):
        h = jnp.tanh(x @ w)
        return jnp.mean((jnp.sin(h) @ w.T - x) ** 2)
    value, slope = jax.value_and_grad(loss)(w)
    return w - 0.1 * slope, value

def train(steps, rows, w=None):
    w = jnp.eye(128) if w is None else w
    x = jnp.arange(rows * 128.0).reshape(rows, 128) / (rows * 128)
    seen = []
    for _ in range(steps):
        w, value = jax.block_until_ready(step(w, x))
        seen.append(float(value).hex())
    return w, seen

def both():
    # The shapes change in the middle and come back.
    w, first = train(40, 512)
    w, middle = train(8, 384, w)
    return first + middle + train(40, 512, w)[1]

plain = both()
before = arena.hooked()
arena.start(ArenaOptions(log=folder + "/log.jsonl"))
hooked = arena.hooked()
train(30, 512)
arena.stop()
write_plan(plan_log(read_log(folder + "/log.jsonl")), folder + "/plan.json")
arena.start(ArenaOptions(plan=folder + "/plan.json", check=True))
planned = both()
counts = vars(arena.counts())
kept = train(60, 512)[0]
live = arena.stop()
draining = arena.hooked()
jax.block_until_ready(jnp.ones((512, 512)) * 2)
total = float(jnp.sum(kept))
del kept
import gc, time
gc.collect()
for _ in range(100):
    if arena.hooked() == 0: break
    time.sleep(0.05)
restored = arena.hooked()
arena.start(ArenaOptions(budget=1_000_000))
try:
    jax.block_until_ready(jnp.zeros((1000, 1000)))
    denied = ""
except Exception as error:
    denied = str(error)
arena.stop()
again = both() == plain
print(json.dumps([plain == planned, before, hooked, counts, live, draining, restored, denied, again,
                  total == total]))
"""


def test_a_planned_run_is_bit_for_bit_the_same(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**without_arena(), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    same, before, hooked, counts, live, draining, restored, denied, again, good = json.loads(
        done.stdout.splitlines()[-1]
    )
    assert same and again and good
    assert before == 0 and hooked > 0
    assert counts["planned"] > 60 and counts["unknown"] + counts["before"] >= 8
    # An array of the plan lives on: the slots of `free` stay until it is gone.
    assert draining == 0 if live == 0 else 0 < draining < hooked
    assert restored == 0
    assert "Out of memory" in denied or "RESOURCE_EXHAUSTED" in denied
    assert "4000000 bytes wanted" in done.stderr and "budget 1000000" in done.stderr


@pytest.mark.slow
def test_the_tests_of_layers_pass_under_a_plan(tmp_path):
    log, path = tmp_path / "log.jsonl", tmp_path / "plan.json"
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/models/test_layers.py"]
    tests += ["-k", "norms or rotation or uneven or mask"]

    def run(options):
        return subprocess.run(
            [sys.executable, *tests],
            cwd=ROOT,
            env={**without_arena(), "JAX_PLATFORMS": "cpu", **arena.environment(options)},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    assert run(ArenaOptions(log=log, threshold=256)).returncode == 0
    # A loop of the one size that comes most often, so that lives that meet are sure to come.
    sizes = Counter(record.size for record in read_log(log).records)
    size = max(sizes, key=lambda size: sizes[size])
    write_plan(ArenaPlan(((size, 0, 64),), size, size), path)
    done = run(ArenaOptions(plan=path, check=True))
    assert done.returncode == 0, done.stdout + done.stderr
    planned = re.search(r"requests, (\d+) as planned; to libc", done.stderr)
    assert planned is not None and int(planned[1]) > 0
