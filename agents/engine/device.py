"""Runs planned steps: packs rows into arrays, calls compiled programs, unpacks the results."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from loomax.agents.engine import buckets
from loomax.agents.engine.config import EngineConfig
from loomax.agents.engine.programs import programs
from loomax.agents.engine.sampling import draws_of
from loomax.agents.engine.sharding import placed
from loomax.agents.engine.speculative.ahead import first_layers
from loomax.agents.engine.store import Batch, recurrent
from loomax.agents.engine.work import Call, Result, Row, Work
from loomax.agents.search.engine_protocol import Sampling
from loomax.models.lm import LMConfig

GREEDY = Sampling(1)
# A target that is out of range everywhere.
NOWHERE = 2**31 - 1


class Device:
    """Parameters and everything that is cached, on the device.

    Args:
        drafter: configuration and parameters of the small model that guesses.
        mesh: that everything is spread over; see `sharding`.

    Raises:
        ValueError: models, sizes and mesh do not go together.
    """

    def __init__(
        self,
        model: LMConfig,
        params: PyTree,
        config: EngineConfig,
        drafter: tuple[LMConfig, PyTree] | None = None,
        mesh: Mesh | None = None,
    ):
        check(model, config, drafter and drafter[0])
        parts = ((model, params), *([drafter] if drafter else []))
        # Unrolled layers update what is cached in place; a scan would copy all of it.
        models = tuple(replace(part, unroll=True) for part, _ in parts)
        self.config, self.model = config, model
        self.recurrent = any(map(recurrent, models))
        self._params = tuple(placed(*part, mesh) for part in parts)
        self.programs = programs(models, mesh)
        self._stores: Any = self.programs.empty(config)

    @property
    def traced(self) -> int:
        """Programs that have been compiled for engines of this kind, in this process."""
        return self.programs.traced

    def run(self, work: Work) -> list[list[Result]]:
        """Does what was planned; results are those of each call's rows."""
        for program, pairs in (
            (self.programs.save, work.saves),
            (self.programs.restore, work.restores),
            (self.programs.copy, work.copies),
        ):
            self._move(program, list(pairs.items()))
        found = [self._call(call) for call in work.calls]
        pairs = zip(work.calls, jax.device_get(found), strict=True)
        return [_results(call, out) for call, out in pairs]

    def warm_up(self) -> None:
        """Compiles every step."""
        calls = [Call(rows, length, ()) for rows, length in buckets.every(self.config)]
        if self.config.speculative.drafter != "none":
            length = 1 + self.config.speculative.tokens
            calls.append(Call(self.config.slots, length, (), verify=True))
        for call in calls:
            for width in self.config.widths:
                jax.block_until_ready(self._run(call, width))
        for program in (self.programs.save, self.programs.restore, self.programs.copy):
            self._move(program, [(NOWHERE, 0)])

    def _call(self, call: Call) -> Any:
        needed = max(self.config.pages_of(row.start + call.length) for row in call.parts)
        fitting = [width for width in self.config.widths if width >= needed]
        return self._run(call, fitting[0] if fitting else self.config.widths[-1])

    def _run(self, call: Call, width: int) -> Any:
        verify = self.programs.verify(self.config.speculative)
        program = verify if call.verify else self.programs.extend
        out, self._stores = program(self._params, self._stores, self._batch(call, width))
        return out

    def _batch(self, call: Call, width: int) -> Batch:
        """Rows that nobody has are without tokens, pages and slot."""
        rows: list[Row | None] = [None] * call.rows
        for index, row in enumerate(call.parts):
            rows[index if call.rows == 1 else row.slot] = row
        tokens = np.zeros((call.rows, call.length), np.int32)
        numbers = np.zeros((3, call.rows), np.int32)
        numbers[2] = self.config.slots
        table = np.full((call.rows, width), self.config.pages, np.int32)
        for index, row in enumerate(rows):
            if row is None:
                continue
            tokens[index, : len(row.tokens)] = row.tokens
            numbers[:, index] = (max(len(row.tokens), row.room), row.start, row.slot)
            table[index, : len(row.pages[:width])] = row.pages[:width]
        draws = draws_of([row.request.sampling if row else GREEDY for row in rows])
        return Batch(tokens, numbers[0], numbers[1], table, numbers[2], draws)

    def _move(self, program: Any, pairs: Sequence[tuple[int, int]]) -> None:
        """Copies as many (target, source) at once as there are slots."""
        count = self.config.slots
        for first in range(0, len(pairs), count):
            some = [*pairs[first : first + count]]
            some += [(NOWHERE, 0)] * (count - len(some))
            target, source = np.array(some, np.int32).T
            _, self._stores = program((), self._stores, source, target)


def _results(call: Call, out: Sequence[np.ndarray]) -> list[Result]:
    """What each row of a call got."""
    results = []
    for index, row in enumerate(call.parts):
        tokens, logprobs, *accepted = (part[index if call.rows == 1 else row.slot] for part in out)
        count = int(accepted[0]) if accepted else int(row.final)
        got, how = (tuple(np.atleast_1d(x)[:count].tolist()) for x in (tokens, logprobs))
        results.append(Result(got, how, count if accepted else len(row.tokens)))
    return results


def check(model: LMConfig, config: EngineConfig, drafter: LMConfig | None) -> None:
    """Refuses what does not go together.

    Raises:
        ValueError: naming what.
    """
    how = config.speculative.drafter
    if (how == "model") != (drafter is not None):
        raise ValueError(
            f"the drafter is {how!r} and a small model was {'not ' * (drafter is None)}given; "
            "'model' needs one, the others none"
        )
    if drafter is not None and drafter.vocab != model.vocab:
        raise ValueError(
            f"the small model's vocabulary is {drafter.vocab}, the model's {model.vocab}; they "
            "must be the same"
        )
    if how == "self":
        first_layers(model, config.speculative.layers)
