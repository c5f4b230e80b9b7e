"""YOCO and its Transformer on this machine: prefill, decoding and cache of tiny models."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from benchmarks._rows import Row, compare, seconds, take_turns, tree_bytes
from loomax.models.lm import LMConfig, create, decode, empty_cache, extend
from loomax.models.lm.presets import transformer_tiny, yoco_tiny

BENCH = "yoco"
BLOCK = 512
NEW_TOKENS = 16


class Runner:
    """One model with its compiled functions; prompts go in by blocks, as a server would do it."""

    def __init__(self, config: LMConfig, length: int):
        self.config, self.length = config, length
        self.params = create(config, key=jax.random.key(0))
        self.extend = jax.jit(lambda p, c, t: extend(config, p, c, t), donate_argnums=(1,))
        self.decode = jax.jit(lambda p, c, t: decode(config, p, c, t), donate_argnums=(1,))
        self.tokens = jax.random.randint(jax.random.key(1), (1, length), 3, config.vocab)

    def fill(self):
        """The whole prompt; returns its cache."""
        cache = empty_cache(self.config, 1, self.length + NEW_TOKENS)
        for start in range(0, self.length, BLOCK):
            _, cache = self.extend(self.params, cache, self.tokens[:, start : start + BLOCK])
        return cache

    def prefill_s(self) -> float:
        """Seconds until the prompt is cached."""
        return seconds(self.fill)[0]

    def decode_s(self) -> float:
        """Seconds per token behind the prompt."""
        cache = jax.block_until_ready(self.fill())

        def run():
            nonlocal cache
            for _ in range(NEW_TOKENS):
                _, cache = self.decode(self.params, cache, jnp.array([3]))
            return cache

        return seconds(run)[0] / NEW_TOKENS


def rows(quick: bool, n: int) -> list[Row]:
    """Ours is YOCO with gated retention."""
    length = 2 * BLOCK if quick else 8 * BLOCK
    made = {
        "cpu": replace(yoco_tiny(), unroll=True),
        "transformer": replace(transformer_tiny(), unroll=True),
    }
    runners = {name: Runner(config, length) for name, config in made.items()}
    found: list[Row] = []
    timed: dict[str, Callable[[Runner], float]] = {
        "prefill_s": Runner.prefill_s,
        "decode_s": Runner.decode_s,
    }
    for metric, measure in timed.items():
        turns = {name: lambda r=runner, m=measure: m(r) for name, runner in runners.items()}
        samples = take_turns(turns, n)
        found += compare(BENCH, metric, "s", samples, "cpu", ["transformer"], "lower")
    kept = {
        name: [float(tree_bytes(empty_cache(runner.config, 1, length)))]
        for name, runner in runners.items()
    }
    return found + compare(BENCH, "kv_bytes", "bytes", kept, "cpu", ["transformer"], "lower")
