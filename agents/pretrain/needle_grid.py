"""Retrieval of facts by the place where they lie and the length of the prompt.

A prompt is read in blocks into a cache, as a server would do it, and its answer is checked in one
pass: greedy decoding gives the answer exactly if each of its tokens is the likeliest one after
those before it.

Shape letters: R prompts, T tokens, A tokens of an answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, PyTree

from loomax.agents.pretrain.needles import Facts, Prompt, prompt
from loomax.models.lm import LMConfig, empty_cache, extend, verify
from loomax.models.lm.generate import Cache
from loomax.runtime.mesh import FSDP, REPLICA, batch_sharding, constrain, on_mesh, replicated
from loomax.runtime.progress import Progress

# The longest answer, " 9999.\n", has one token a byte at worst.
ANSWER = 8
# Fills answers up; what a model says there does not count.
NOTHING = -1


@dataclass(frozen=True)
class GridConfig:
    """What is asked.

    Args:
        lengths: tokens of the prompts; who scores has to put some in if there are none.
        depths: places of the fact that is asked for, evenly from the beginning to the end.
        needles: facts in a prompt; one is asked for.
        trials: prompts of each length and depth.
        block: tokens that are read at once.
    """

    lengths: tuple[int, ...]
    depths: int = 10
    needles: int = 1
    trials: int = 16
    block: int = 512
    seed: int = 0

    def __post_init__(self):
        for name in ("depths", "needles", "trials", "block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if min(self.lengths, default=1) < 1:
            raise ValueError(f"lengths are {self.lengths}; each must be at least 1")

    @property
    def places(self) -> tuple[float, ...]:
        """Depths from 0 to 1; the middle if there is one only."""
        if self.depths == 1:
            return (0.5,)
        return tuple(index / (self.depths - 1) for index in range(self.depths))


@dataclass(frozen=True)
class Cell:
    """Prompts of one length with the fact at one depth."""

    length: int
    depth: float
    found: int
    trials: int


def prompts(
    config: GridConfig, facts: Facts, hay: Int[np.ndarray, " T"], length: int, depth: float
) -> list[Prompt]:
    """The prompts of a cell; the same for every model with this tokenizer.

    Raises:
        ValueError: the needles do not fit.
    """
    seed = [config.seed, length, round(1000 * depth), config.needles]
    rng = np.random.default_rng(seed)
    make = partial(prompt, facts, hay, length=length, depth=depth, needles=config.needles)
    return [make(rng=rng) for _ in range(config.trials)]


class Reader:
    """Answers prompts of any length, by functions that are compiled once for each number of rows.

    Args:
        block, slots: tokens read at once, and room for the longest prompt with its answer.
    """

    def __init__(self, model: LMConfig, mesh: Mesh, *, block: int, slots: int):
        self._rows, self._block = batch_sharding(mesh), block
        self._shares = mesh.shape[REPLICA] * mesh.shape[FSDP]

        def start(rows: int) -> Cache:
            with on_mesh(mesh):
                return over_rows(model, empty_cache(model, rows, slots))

        def read(params: PyTree, cache: Cache, tokens: Array, count: Array) -> Cache:
            with on_mesh(mesh):
                return over_rows(model, extend(model, params, cache, tokens, count)[1])

        def check(params: PyTree, cache: Cache, given: Array, answer: Array) -> Bool[Array, " R"]:
            with on_mesh(mesh):
                scores, _ = verify(model, params, cache, given)
            return ((scores.argmax(-1) == answer) | (answer == NOTHING)).all(-1)

        self._start = jax.jit(start, static_argnums=(0,))
        self._read = jax.jit(read, donate_argnums=(1,))
        self._check = jax.jit(check, out_shardings=replicated(mesh))

    def __call__(self, params: PyTree, asked: Sequence[Prompt]) -> Bool[np.ndarray, " R"]:
        """Which prompts, all of one length, are answered right."""
        filled = [*asked, *asked[-1:] * (-len(asked) % self._shares)]
        tokens = np.stack([one.tokens for one in filled])
        answer = stack_answers([one.answer for one in filled])
        cache = self._start(len(filled))
        # The question's last token is given with the answer, whose first token it predicts.
        for part, count in blocks(tokens[:, :-1], self._block):
            cache = self._read(params, cache, self._place(part), self._place(count))
        given = np.concatenate([tokens[:, -1:], np.maximum(answer[:, :-1], 0)], axis=1)
        right = self._check(params, cache, self._place(given), self._place(answer))
        return np.asarray(right)[: len(asked)]

    def _place(self, rows: np.ndarray) -> Array:
        """Rows that every process has, each device with its own."""
        return jax.device_put(rows, self._rows)


def over_rows(model: LMConfig, cache: Cache) -> Cache:
    """The cache with its rows shared out over the mesh that the program is traced on."""

    def rows_first(leaf):
        return constrain(leaf, "batch", *(None,) * (leaf.ndim - 1))

    def rows_second(leaf):
        return constrain(leaf, None, "batch", *(None,) * (leaf.ndim - 2))

    # Scanned layers have their states stacked.
    states = jax.tree.map(rows_first if model.unroll else rows_second, cache.states)
    return Cache(rows_first(cache.length), states, jax.tree.map(rows_first, cache.shared))


def score_grid(
    config: GridConfig,
    reader: Reader,
    params: PyTree,
    facts: Facts,
    hay: Int[np.ndarray, " T"],
    *,
    enabled: bool = True,
) -> list[Cell]:
    """All lengths and depths, the shortest prompts first."""
    places = [(length, depth) for length in sorted(config.lengths) for depth in config.places]
    asked = {place: prompts(config, facts, hay, *place) for place in places}
    cells = []
    with Progress(sum(length for length, _ in places), "tokens", enabled=enabled) as progress:
        for place in places:
            right = reader(params, asked[place])
            cells.append(Cell(*place, int(right.sum()), config.trials))
            found = sum(cell.found for cell in cells) / (len(cells) * config.trials)
            progress.update(place[0], length=place[0], found=found)
    return cells


def stack_answers(answers: Sequence[np.ndarray]) -> Int[np.ndarray, "R A"]:
    """Answers filled up to one length."""
    filled = [np.pad(a, (0, ANSWER - len(a)), constant_values=NOTHING) for a in answers]
    return np.stack(filled).astype(np.int32)


def blocks(tokens: Int[np.ndarray, "R T"], size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of one shape with their numbers of real tokens; the last one is filled up."""
    rows, length = tokens.shape
    for start in range(0, length, size):
        part = tokens[:, start : start + size]
        short = size - part.shape[1]
        yield np.pad(part, ((0, 0), (0, short))), np.full(rows, part.shape[1], np.int32)
