"""Loss of tiny models with equal parameters and tokens: bytes of Python sources, and recall.

Every model sees the same batches. Three seeds train side by side in one program.

Shape letters: R seeds, N optimiser steps, B rows, T tokens.
"""

import statistics
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks._rows import Row, compare
from loomax.models.lm import LMConfig, count, create, shapes
from loomax.models.lm.loss import next_token_loss
from loomax.models.lm.presets import yoco_tiny
from loomax.runtime.progress import Progress

BENCH = "yoco"
SEEDS = 3
MIXERS = ("gated_retention", "sliding_window", "gated_deltanet")
LENGTH, BATCH = 128, 16
PAIRS, SYMBOLS = 8, 16
# Student's t for 95 % and three seeds.
T95 = 4.303


@dataclass(frozen=True)
class Task:
    """Rows to learn from and rows to be judged by; `counted` marks the targets."""

    name: str
    vocab: int
    train: np.ndarray  # [R, N, B, T + 1]
    test: np.ndarray  # [B, T + 1]
    counted: np.ndarray  # [T + 1]
    lr: float


def base(vocab: int) -> LMConfig:
    """Four layers of width 64; the window is a quarter of a row."""
    return replace(
        yoco_tiny(),
        vocab=vocab,
        width=64,
        mlp=160,
        heads=4,
        kv_heads=2,
        head_dim=16,
        self_layers=2,
        cross_layers=2,
        mixer_heads=4,
        mixer_head_dim=16,
        window=LENGTH // 4,
        chunk=32,
    )


def contestants(vocab: int) -> dict[str, LMConfig]:
    """A YOCO of each mixer and the Transformer, all as large as the first."""
    made = {mixer: replace(base(vocab), mixer=mixer) for mixer in MIXERS}
    made["transformer"] = replace(base(vocab), mixer="attention", self_layers=4, cross_layers=0)
    target = count(shapes(made[MIXERS[0]]))
    return {name: matched(config, target) for name, config in made.items()}


def matched(config: LMConfig, target: int) -> LMConfig:
    """The SwiGLU width that brings the number of parameters nearest to `target`."""
    beside = count(shapes(replace(config, mlp=1))) - 3 * config.width * config.layers
    return replace(config, mlp=round((target - beside) / (3 * config.width * config.layers)))


def python_bytes(steps: int) -> Task:
    """Windows of the standard library's top-level sources; every eighth file is held out."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    parts = [np.frombuffer(path.read_bytes(), np.uint8) for path in files]
    held_out = np.concatenate(parts[::8])
    seen = np.concatenate([part for i, part in enumerate(parts) if i % 8])

    def windows(text, *shape, seed):
        starts = np.random.default_rng(seed).integers(0, len(text) - LENGTH - 1, shape)
        return text[starts[..., None] + np.arange(LENGTH + 1)].astype(np.int32)

    train = np.stack([windows(seen, steps, BATCH, seed=seed) for seed in range(SEEDS)])
    counted = np.ones(LENGTH + 1, bool)
    return Task("quality", 256, train, windows(held_out, 256, seed=99), counted, 3e-3)


def recall(steps: int) -> Task:
    """Pairs of key and value, then every key again in another order: what was its value?"""

    def rows(rng, n):
        order = np.argsort(rng.random((n, SYMBOLS)), axis=1)[:, :PAIRS]
        values = SYMBOLS + rng.integers(0, SYMBOLS, (n, PAIRS))
        asked = np.argsort(rng.random((n, PAIRS)), axis=1)
        pairs = np.stack([order, values], -1).reshape(n, -1)
        again = np.stack([np.take_along_axis(x, asked, 1) for x in (order, values)], -1)
        return np.concatenate([pairs, again.reshape(n, -1)], axis=1).astype(np.int32)

    def train(seed):
        made = rows(np.random.default_rng(seed), steps * BATCH)
        return made.reshape(steps, BATCH, -1)

    counted = np.arange(4 * PAIRS) >= 2 * PAIRS
    counted &= np.arange(4 * PAIRS) % 2 == 1
    test = rows(np.random.default_rng(99), 256)
    return Task(
        "recall", 2 * SYMBOLS, np.stack(list(map(train, range(SEEDS)))), test, counted, 3e-3
    )


def program(config: LMConfig, task: Task) -> tuple[Callable, Callable, Callable]:
    """`start(keys)`, `steps(carry, rows)` and `judge(params)` for all seeds at once."""
    total = task.train.shape[1]
    schedule = optax.warmup_cosine_decay_schedule(0.0, task.lr, total // 10 + 1, total)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.95))

    def loss(params, rows):
        counted = jnp.broadcast_to(task.counted, rows.shape)
        found = next_token_loss(config, params, rows, counted=counted)
        return found.nats / found.tokens, found.correct / found.tokens

    def start(key):
        params = create(config, key=key)
        return params, tx.init(params)

    def steps(carry, rows):
        def body(carry, rows):
            params, opt_state = carry
            (value, _), grads = jax.value_and_grad(loss, has_aux=True)(params, rows)
            updates, opt_state = tx.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), value

        return jax.lax.scan(body, carry, rows)

    def judge(params):
        return loss(params, jnp.array(task.test))

    return jax.vmap(start), jax.jit(jax.vmap(steps), donate_argnums=(0,)), jax.jit(jax.vmap(judge))


def train(config: LMConfig, task: Task, progress: Progress, pieces: int = 10) -> Any:
    """Held-out loss and accuracy of each seed."""
    start, steps, judge = program(config, task)
    carry = start(jax.random.split(jax.random.key(0), SEEDS))
    for rows in np.split(task.train, pieces, axis=1):
        carry, losses = steps(carry, jnp.array(rows))
        progress.update(1, loss=losses[:, -1].mean())
    return (np.asarray(x).tolist() for x in judge(carry[0]))


def interval(values: list[float]) -> str:
    """Mean and half width of the 95 % interval."""
    half = T95 * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.4f} +- {half:.4f}"


def task_rows(task: Task) -> list[Row]:
    """All contestants on one task."""
    models = contestants(task.vocab)
    losses, hits = {}, {}
    with Progress(10 * len(models), task.name) as progress:
        for name, config in models.items():
            losses[name], hits[name] = train(config, task, progress)
            size = count(shapes(config))
            print(
                f"{task.name} {name}: {size:,} parameters, loss {interval(losses[name])}, "
                f"accuracy {interval(hits[name])}",
                flush=True,
            )
    found: list[Row] = []
    for metric, unit, values, better in (
        ("loss", "nats", losses, "lower"),
        ("accuracy", "share", hits, "higher"),
    ):
        for mixer in MIXERS:
            case = f"{task.name}-{mixer}"
            samples = {case: values[mixer], "transformer": values["transformer"]}
            ours, theirs = compare(BENCH, metric, unit, samples, case, ["transformer"], better)
            found.append(ours)
        found.append(replace(theirs, case=f"{task.name}-transformer"))
    return found


def rows(quick: bool) -> list[Row]:
    """Both tasks."""
    lm, pairs = (20, 20) if quick else (600, 3000)
    return task_rows(python_bytes(lm)) + task_rows(recall(pairs))
