"""Streams of requests, as an allocator sees them: no model runs.  Part of: loomax bench memory

Requests come at random, with prompts and answers of random lengths. Each has a cache of its own,
whose size follows its prompt; a prefill and each step of an answer take temporaries for a moment.

    streams-tiny   the sizes of the program that is recorded (`_memory_recorded.py`)
    streams        sizes, caches and batching are drawn too, another server for each seed

Rows: trace-streams-tiny/fragmentation and trace-streams/fragmentation, the mean over seeds. A peer
counts with what it reserves without a limit, BFC with the least capacity that works.
"""

import statistics
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from benchmarks._memory_traces import PEERS, one_region, row
from benchmarks._rows import Row
from loomax.memory.allocator.planned_native import make_planned, run
from loomax.memory.allocator.replay import events, least_capacity, replay
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace

ALIGNMENT = 512
SCORES = 4096
# None of them was used when the allocator's rules were chosen.
SEEDS = range(100, 120)


@dataclass(frozen=True)
class Kind:
    """One kind of request.

    Args:
        chance: how often it comes, in any unit.
        cache: bytes of one cache buffer.
        prefill: temporary bytes of its prefill.
        decode: temporary bytes of one step.
        longest: steps of an answer, at most.
    """

    chance: float
    cache: int
    prefill: int
    decode: int
    longest: int


@dataclass(frozen=True)
class Server:
    """How requests are served.

    Args:
        kinds: of requests.
        caches: buffers of a request's cache.
        renewed: each step writes new caches, and the old ones are freed after it.
        together: one step serves all active requests.
        active: requests, at most.
        rate: chance that a request comes before a step.
    """

    kinds: tuple[Kind, ...]
    caches: int = 2
    renewed: bool = True
    together: bool = False
    active: int = 8
    rate: float = 0.5


TINY = Server(
    (
        Kind(0.4, 65_536, 898_592, 854_720, 15),
        Kind(0.3, 131_072, 969_504, 879_808, 31),
        Kind(0.2, 262_144, 1_617_184, 929_024, 63),
        Kind(0.1, 524_288, 4_141_344, 1_027_456, 127),
    )
)


def draw_server(draw: np.random.Generator) -> Server:
    """Buckets of powers of two, finer ones or none; small caches come more often."""
    unit = int(draw.choice([16_384, 65_536, 131_072]))
    widths = ([1, 2, 4, 8], [1, 1.5, 2, 3, 4, 6, 8, 10], np.arange(4, 65) / 8)[draw.integers(3)]
    base, prefill = unit * draw.uniform(2, 10), draw.uniform(4, 12)
    kinds = tuple(
        Kind(
            chance=1 / (1 + at),
            cache=int(unit * width),
            prefill=int(unit * width * prefill + base / 2),
            decode=int(base + unit * width / 8),
            longest=int(10 + 8 * width),
        )
        for at, width in enumerate(widths)
    )
    return Server(
        kinds,
        caches=int(draw.choice([1, 2, 4])),
        renewed=bool(draw.random() < 0.6),
        together=bool(draw.random() < 0.4),
        active=int(draw.choice([4, 8, 16])),
        rate=draw.uniform(0.2, 0.9),
    )


class _Log:
    """Buffers in the order of their births; times count events."""

    def __init__(self):
        self.made: list[tuple[int, int]] = []
        self.deaths: dict[int, int] = {}
        self._time = 0

    def malloc(self, size: int) -> int:
        self.made.append((size, self._time))
        self._time += 1
        return len(self.made) - 1

    def free(self, *buffers: int) -> None:
        for buffer in buffers:
            self.deaths[buffer] = self._time
            self._time += 1

    def trace(self, source: str) -> Trace:
        return Trace(
            tuple(
                Lifetime(str(at), size, birth, self.deaths[at], ALIGNMENT)
                for at, (size, birth) in enumerate(self.made)
            ),
            source,
        )


@dataclass
class _Request:
    kind: Kind
    left: int
    held: list[int]


def stream(server: Server, count: int, draw: np.random.Generator) -> Trace:
    """The buffers of `count` requests."""
    log = _Log()
    chances = np.array([kind.chance for kind in server.kinds])
    active: list[_Request] = []
    while count or active:
        if count and len(active) < server.active and (not active or draw.random() < server.rate):
            kind = server.kinds[draw.choice(len(chances), p=chances / chances.sum())]
            active.append(_prefill(log, server, kind, int(draw.integers(2, kind.longest + 1))))
            count -= 1
        for batch in [active] if server.together else [[one] for one in active]:
            _decode(log, server, batch)
        for one in active:
            if not one.left:
                log.free(*one.held)
        active = [one for one in active if one.left]
    return log.trace("requests")


def _prefill(log: _Log, server: Server, kind: Kind, left: int) -> _Request:
    tokens = log.malloc(ALIGNMENT)
    held = [log.malloc(kind.cache) for _ in range(server.caches)]
    log.free(log.malloc(kind.prefill), tokens)
    return _Request(kind, left, held)


def _decode(log: _Log, server: Server, batch: list[_Request]) -> None:
    """One step; caches that it writes anew live before its temporaries, as results do."""
    new = [
        [log.malloc(one.kind.cache) for _ in one.held] if server.renewed else one.held
        for one in batch
    ]
    scores = log.malloc(SCORES * len(batch))
    log.free(log.malloc(sum(one.kind.decode for one in batch)), scores)
    for one, held in zip(batch, new, strict=True):
        if server.renewed:
            log.free(*one.held)
        one.held, one.left = held, one.left - 1


def online(trace: Trace) -> int:
    """Bytes that a trace needs of which nothing is known ahead."""
    allocator = make_planned(Trace(()), {}, alignment=ALIGNMENT)
    run(allocator, events(trace))
    return allocator.reserved


def fragmentation(traces: list[Trace]) -> dict[str, list[float]]:
    """Of ours and of the peers, for each trace."""
    found: dict[str, list[float]] = defaultdict(list)
    for trace in traces:
        taken = {"ours": online(trace), "bfc": least_capacity(trace, one_region, SCORES)}
        taken |= {peer: replay(trace, make(None)).reserved for peer, make in PEERS.items()}
        for name, size in taken.items():
            found[name].append(1 - trace.lower_bound / size)
    return found


def rows(quick: bool) -> list[Row]:
    """Mean fragmentation over seeds; how often ours is better than BFC is printed."""
    found = []
    for name in ("streams-tiny", "streams"):
        traces = []
        for seed in SEEDS[:2] if quick else SEEDS:
            draw = np.random.default_rng(seed)
            server = TINY if name == "streams-tiny" else draw_server(draw)
            traces.append(stream(server, 8 if quick else 40, draw))
        lost = fragmentation(traces)
        better = sum(ours < bfc for ours, bfc in zip(lost["ours"], lost["bfc"], strict=True))
        mean = {peer: statistics.mean(values) for peer, values in lost.items()}
        shown = ", ".join(f"{peer} {100 * value:.2f} %" for peer, value in mean.items())
        print(f"{name}: {len(traces)} streams, better than bfc in {better}: {shown}", flush=True)
        for peer in (*PEERS, "bfc"):
            made = row(f"trace-{name}", "fragmentation", mean["ours"], peer, mean[peer])
            found.append(made)
    return found
