"""What does a training step hold on CPU when unrolled layers are rematerialised?

The same step on a list of attention and MLP layers, in four forms: our remat, `jax.checkpoint`,
`jax.checkpoint` in a scan over stacked layers, and none. They run in turns from the same
parameters, and have to give the same losses.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks._rows import Row, compare, take_turns
from loomax.memory.schedule.remat import remat

BENCH = "memory"
ROOT = Path(__file__).resolve().parent.parent
CASE = "remat-cpu"
PEERS = ["jax.checkpoint", "scan-checkpoint", "no-remat"]
RATE = 0.1
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Size:
    """Of the model and the batch."""

    layers: int
    width: int
    length: int
    batch: int
    heads: int = 4


FULL = Size(layers=8, width=256, length=256, batch=8)
QUICK = Size(layers=4, width=32, length=64, batch=2)


def normalised(x: jax.Array, scale: jax.Array) -> jax.Array:
    """By the root of the mean square, which is taken in float32."""
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + 1e-6)).astype(x.dtype) * scale


def layer(heads: int, p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Causal attention (its softmax in float32) and an MLP."""
    q, k, v = jnp.split(normalised(x, p["scale"]) @ p["qkv"], 3, -1)
    q, k, v = (t.reshape(*t.shape[:2], heads, -1) for t in (q, k, v))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    scores = jnp.where(seen, scores.astype(jnp.float32), -1e9)
    weights = jax.nn.softmax(scores).astype(x.dtype)
    x = x + jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape) @ p["out"]
    return x + jax.nn.gelu(normalised(x, p["mlp_scale"]) @ p["up"]) @ p["down"]


def parameters(size: Size, *, key: jax.Array) -> list[dict[str, jax.Array]]:
    """One dictionary a layer."""
    width = size.width
    shapes = {"qkv": (width, 3 * width), "out": (width, width)}
    shapes |= {"up": (width, 4 * width), "down": (4 * width, width)}
    draw, ones = jax.nn.initializers.lecun_normal(), jnp.ones(width)
    return [
        {name: draw(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}
        | {"scale": ones, "mlp_scale": ones}
        for keys in jax.random.split(key, (size.layers, len(shapes)))
    ]


def apply_list(block: Callable[..., Any], params: list[Any], x: jax.Array) -> jax.Array:
    for p in params:
        x = block(p, x)
    return x


def apply_scan(block: Callable[..., Any], params: Any, x: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda x, p: (block(p, x), None), x, params)[0]


class Form:
    """One form of the step, compiled, with its state."""

    def __init__(self, apply: Callable[..., Any], block: Callable[..., Any], params: Any, x: Any):
        def step(params, x):
            loss, slopes = jax.value_and_grad(lambda p: jnp.mean((apply(block, p, x) - x) ** 2))(
                params
            )
            return jax.tree.map(lambda p, slope: p - RATE * slope, params, slopes), loss

        # Donated, so each form needs its own.
        self.params, self.x, self.losses = jax.tree.map(jnp.copy, params), x, []
        self.step = jax.jit(step, donate_argnums=0).lower(params, x).compile()
        self.temp_bytes = self.step.memory_analysis().temp_size_in_bytes

    def cpu_s(self) -> float:
        """CPU seconds of one more step, over all threads."""
        start = time.process_time()
        self.params, loss = jax.block_until_ready(self.step(self.params, self.x))
        spent = time.process_time() - start
        self.losses.append(float(loss))
        return spent


def forms(size: Size, only: Sequence[str] = (), *, key: jax.Array) -> dict[str, Form]:
    """Ours, then the peers; or some of them."""
    params = parameters(size, key=key)
    x = jax.random.normal(jax.random.fold_in(key, 1), (size.batch, size.length, size.width))
    block = partial(layer, size.heads)
    recipes = {
        CASE: (apply_list, remat(block)),
        "jax.checkpoint": (apply_list, jax.checkpoint(block)),
        "scan-checkpoint": (apply_scan, jax.checkpoint(block)),
        "no-remat": (apply_list, block),
    }
    made = {}
    for name in only or recipes:
        apply, block = recipes[name]
        stacked = apply is apply_scan
        given = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params) if stacked else params
        made[name] = Form(apply, block, given, x)
    return made


def grown_bytes(name: str, quick: bool) -> float:
    """Most bytes by which a process grows while it takes steps in one form."""
    command = [sys.executable, "-m", "benchmarks._memory_remat", name, str(int(quick))]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "LOOMAX_MALLOC": "0"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def watch(form: Form, steps: int) -> int:
    """Growth of this process's resident memory over some steps, at its highest."""
    before = highest = resident_bytes()
    done = threading.Event()

    def look() -> None:
        nonlocal highest
        while not done.wait(0.002):
            highest = max(highest, resident_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(steps):
        form.cpu_s()
    done.set()
    watcher.join()
    return highest - before


def resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def check_losses(made: dict[str, Form]) -> None:
    """Raises RuntimeError if a form has learned something else than ours."""
    for name, form in made.items():
        for ours, theirs in zip(made[CASE].losses, form.losses, strict=True):
            if abs(ours - theirs) > TOLERANCE * abs(ours):
                raise RuntimeError(f"{name} has loss {theirs}, ours {ours}: the steps differ")


def rows(quick: bool) -> list[Row]:
    """Temporary bytes of each form, growth of a process that runs it, and CPU seconds a step."""
    made = forms(QUICK if quick else FULL, key=jax.random.key(0))
    grown = {name: [grown_bytes(name, quick)] for name in made}
    spent = take_turns({name: form.cpu_s for name, form in made.items()}, 3 if quick else 5)
    check_losses(made)
    held = {name: [form.temp_bytes] for name, form in made.items()}
    return [
        *compare(BENCH, "temp_bytes", "B", held, CASE, PEERS, "lower"),
        *compare(BENCH, "rss_growth", "B", grown, CASE, PEERS, "lower"),
        *compare(BENCH, "cpu_s", "s", spent, CASE, PEERS, "lower"),
    ]


if __name__ == "__main__":
    chosen, size = sys.argv[1], QUICK if sys.argv[2] == "1" else FULL
    print(watch(forms(size, [chosen], key=jax.random.key(0))[chosen], steps=3))
