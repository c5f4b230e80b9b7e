"""The inference engine: tokens per second against simpler engines, and a soak that counts errors.

Ours batches continuously. `one-at-a-time` is the same engine with one slot; `static-batching` has
as many slots as ours and takes the next requests when all of a batch have ended.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from benchmarks._rows import Row, compare, device_name, take_turns
from loomax.agents.engine.config import EngineConfig
from loomax.agents.engine.engine import Engine
from loomax.agents.engine.policy import FirstCome, Ordered
from loomax.agents.engine.request import EngineRequest
from loomax.agents.search.engine_protocol import EngineError, Kind, Sampling
from loomax.agents.search.speculate.order import OrderConfig, Ticket
from loomax.models.lm import LMConfig, create, decode, empty_cache, extend
from loomax.models.lm.presets import yoco_small, yoco_tiny

BENCH = "engine"
SLOTS = 8
Alone = Callable[[Sequence[int], int], list[int]]


class Batches(FirstCome):
    """Static batching: nobody comes in until everybody has left."""

    def admit(
        self, waiting: Sequence[Ticket], running: Sequence[Ticket], slots: int
    ) -> Sequence[Ticket]:
        """See `Policy`."""
        return () if running else super().admit(waiting, running, slots)


def isolated(model: LMConfig, params: PyTree, context: int) -> Alone:
    """Greedy decoding of one request alone, without the engine: one block, then single tokens."""

    @jax.jit
    def decoded(params, tokens, count, most):
        cached = empty_cache(model, 1, context)
        scores, cached = extend(model, params, cached, tokens, count[None])

        def one(index, carry):
            found, scores, cached = carry
            token = jnp.argmax(scores, axis=-1).astype(jnp.int32)
            scores, cached = decode(model, params, cached, token)
            return found.at[index].set(token[0]), scores, cached

        found = jnp.zeros((context,), jnp.int32)
        return jax.lax.fori_loop(0, most, one, (found, scores, cached))[0]

    def alone(tokens: Sequence[int], most: int) -> list[int]:
        block = np.zeros((1, context), np.int32)
        block[0, : len(tokens)] = tokens
        found = decoded(params, block, np.int32(len(tokens)), np.int32(most))
        return np.asarray(found)[:most].tolist()

    return alone


@dataclass
class Soaked:
    """What a soak found.

    Args:
        tokens: that were compared; differences: to isolated decoding.
        given_up: requests that ended with an error, drafts that were preempted.
        leaked: pages and snapshots that are still held by somebody.
    """

    requests: int = 0
    tokens: int = 0
    differences: int = 0
    given_up: int = 0
    aborted: int = 0
    preempted: int = 0
    leaked: int = 0


class Soak:
    """Random requests with random arrivals, aborts, halts and forks, each compared at its end.

    Args:
        alone: isolated decoding.
        count: requests, forks included.
    """

    def __init__(self, engine: Engine, alone: Alone, vocab: int, count: int, seed: int = 0):
        self.engine, self.alone, self.vocab = engine, alone, vocab
        self.left, self.found = count, Soaked()
        self._rng = np.random.default_rng(seed)
        self._outputs: list[tuple[list[int], int, list[int], bool]] = []
        # A few beginnings that many prompts share, for the prefix cache.
        self._stems = [self._tokens(n) for n in (5, 12, 20)]

    async def run(self) -> Soaked:
        """All of it, on an engine that runs."""
        waves = []
        while self.left > 0:
            waves.append(asyncio.create_task(self._family()))
            await asyncio.sleep(float(self._rng.exponential(0.002)))
        await asyncio.gather(*waves)
        while self.engine.load().running:
            await asyncio.sleep(0.01)
        self._compare()
        found, memory = self.found, self.engine.memory
        found.preempted = self.engine.scheduler.preempted
        memory.radix.clear()
        found.leaked = memory.pages.used + max(0, memory.snapshots.used - 1)
        return found

    def _tokens(self, count: int) -> list[int]:
        return self._rng.integers(0, self.vocab, count).tolist()

    def _chance(self, value: float) -> bool:
        return bool(self._rng.random() < value)

    async def _family(self) -> None:
        """A request, perhaps with forks of its prompt while it runs, and a turn behind it."""
        self.left -= 1
        stem = self._stems[int(self._rng.integers(3))] if self._chance(0.5) else []
        prompt = [*stem, *self._tokens(int(self._rng.integers(1, 16)))]
        kind: Kind = "background" if self._chance(0.2) else "main"
        most = int(self._rng.integers(1, 28))
        request = await self.engine.submit(prompt, Sampling(most), kind=kind)
        children = []
        for _ in range(int(self._rng.integers(0, 3))):
            self.left -= 1
            children.append(asyncio.create_task(self._fork(request, prompt, "prompt")))
        read = await self._read(request, prompt)
        if read is not None and self._chance(0.3):
            self.left -= 1
            await self._fork(request, [*prompt, *read], "end")
        if self._chance(0.5):
            await asyncio.gather(*children)
        self.engine.abort(request)
        await asyncio.gather(*children)

    async def _fork(self, request: EngineRequest, base: list[int], at) -> None:
        forced = self._tokens(int(self._rng.integers(0, 6)))
        if self._chance(0.5):
            await asyncio.sleep(float(self._rng.exponential(0.01)))
        try:
            most = int(self._rng.integers(1, 10))
            child = await self.engine.fork(request, forced, Sampling(most), at=at)
        except EngineError:
            self.found.given_up += 1
            return
        await self._read(child, [*base, *forced])
        self.engine.abort(child)

    async def _read(self, request: EngineRequest, prompt: list[int]) -> list[int] | None:
        """Reads to the end or to an abort; keeps what came."""
        until = int(self._rng.integers(0, 8)) if self._chance(0.25) else None
        halts, tokens, whole = self._chance(0.5), [], True
        try:
            async for piece in request:
                tokens += piece.tokens
                if until is not None and len(tokens) >= until and whole:
                    whole = False
                    (self.engine.halt if halts else self.engine.abort)(request)
                    self.found.aborted += 1
        except EngineError:
            whole = False
            self.found.given_up += 1
        self._outputs.append((prompt, request.sampling.most, tokens, whole))
        return tokens if whole else None

    def _compare(self) -> None:
        """What every request got against isolated decoding."""
        for prompt, most, tokens, whole in self._outputs:
            expected = self.alone(prompt, most)
            length = most if whole else len(tokens)
            self.found.requests += 1
            self.found.tokens += length
            same = sum(one == other for one, other in zip(tokens, expected[:length], strict=False))
            self.found.differences += max(length, len(tokens)) - same


# Two of the longest requests do not fit.
SOAK = EngineConfig(
    slots=SLOTS, context=64, page=4, pages=30, chunks=(8, 32), snapshots=12, snapshot_every=8
)


def soak(model: LMConfig, count: int, config: EngineConfig = SOAK) -> Soaked:
    """A soak of one model on an engine with too few pages."""
    params = create(model, key=jax.random.key(0))
    policy = Ordered(OrderConfig(ageing_s=0.05))

    async def main() -> Soaked:
        async with Engine(model, params, config, policy=policy) as engine:
            engine.warm_up()
            alone = isolated(model, params, config.context)
            return await Soak(engine, alone, model.vocab, count).run()

    return asyncio.run(main())


class Runner:
    """An engine and a backlog of requests that it works off.

    Args:
        slots: of the engine.
        policy: None is first come, first served.
    """

    def __init__(self, model: LMConfig, count: int, slots: int, policy: FirstCome | None = None):
        config = EngineConfig(slots=slots, context=256, pages=slots * 16, chunks=(16, 64))
        params = create(model, key=jax.random.key(0))
        self._make = partial(Engine, model, params, replace(config, prefix_cache=False))
        self._policy = policy or FirstCome()
        rng = np.random.default_rng(0)
        lengths = np.exp(rng.uniform(np.log(8), np.log(128), (count, 2))).astype(int)
        self._jobs = [(rng.integers(0, model.vocab, a).tolist(), int(b)) for a, b in lengths]

    def tokens_per_s(self) -> float:
        """Generated tokens per second of wall time, prompts included in the time."""
        return asyncio.run(self._run())

    async def _run(self) -> float:
        async with self._make(policy=self._policy) as engine:
            engine.warm_up()
            start = time.perf_counter()
            await asyncio.gather(*(_generate(engine, *job) for job in self._jobs))
            seconds = time.perf_counter() - start
        return sum(most for _, most in self._jobs) / seconds


async def _generate(engine: Engine, tokens: list[int], most: int) -> None:
    request = await engine.submit(tokens, Sampling(most))
    async for _ in request:
        pass
    engine.abort(request)


def rows(quick: bool, n: int = 3) -> list[Row]:
    """Throughput with a backlog, and the soak."""
    model, count = yoco_tiny(), 16 if quick else 64
    runners = {
        "slots-8": Runner(model, count, SLOTS),
        "one-at-a-time": Runner(model, count, 1),
        "static-batching": Runner(model, count, SLOTS, Batches()),
    }
    turns = {name: runner.tokens_per_s for name, runner in runners.items()}
    samples = take_turns(turns, 1 if quick else n)
    others = ["one-at-a-time", "static-batching"]
    found = compare(BENCH, "tokens_per_s", "tokens/s", samples, "slots-8", others)
    return found + [_soak_row(soak(yoco_small(), 100 if quick else 1000))]


def _soak_row(found: Soaked) -> Row:
    """Differences, and leaked pages, which are as bad."""
    value = float(found.differences + found.leaked)
    case = ("soak", "token_differences", value, "tokens", None, None, found.requests)
    print(found)
    return Row(BENCH, *case, device_name(), jax.__version__)
