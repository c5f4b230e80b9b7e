"""Perplexity of held-out documents.

Shape letters: V ids.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Int, PyTree

from loomax.agents.pretrain.config import StageConfig
from loomax.agents.pretrain.data import Rows, held_out_rows
from loomax.agents.pretrain.documents import Documents
from loomax.agents.pretrain.learner import Learner
from loomax.agents.pretrain.tokens import byte_lengths
from loomax.models.lm.loss import TokenLoss
from loomax.runtime.mesh import replicated


@dataclass(frozen=True)
class Score:
    """Sums over held-out tokens.

    Args:
        bytes: text that the tokens stand for, which compares models of different tokenizers.
    """

    nats: float
    correct: float
    tokens: float
    bytes: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / max(self.bytes, 1)

    @property
    def accuracy(self) -> float:
        return self.correct / self.tokens

    def __str__(self) -> str:
        return (
            f"perplexity {self.perplexity:.2f}  ({self.loss:.4f} nats a token, "
            f"{self.bits_per_byte:.3f} bits a byte, {100 * self.accuracy:.1f} % of the next tokens "
            f"right, {self.tokens:.0f} tokens)"
        )


def count_bytes(batches: list[Rows], lengths: Int[np.ndarray, " V"]) -> int:
    """Bytes of all predicted tokens."""
    total = 0
    for tokens, segments, _ in batches:
        predicted = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
        total += int(lengths[tokens[:, 1:]][predicted].sum())
    return total


class Scorer:
    """Scores parameters on the same rows each time.

    Args:
        numbers: of the documents to score; by default the held-out ones.
        most: rows in all; 0 takes every one.
    """

    def __init__(
        self,
        learner: Learner,
        stage: StageConfig,
        documents: Documents,
        *,
        numbers: tuple[int, ...] | None = None,
        most: int = 0,
    ):
        data = learner.config.data
        self._batches = held_out_rows(
            documents,
            data,
            documents.held_out if numbers is None else numbers,
            length=stage.length,
            rows=stage.batch,
            most=most,
        )
        self._bytes = count_bytes(self._batches, byte_lengths(data.tokenizer))
        number, shares = learner.share(stage.batch)
        local = stage.batch // shares
        self._mine = slice(number * local, (number + 1) * local)
        self._learner = learner
        self._program: Callable[..., TokenLoss] = jax.jit(
            lambda *args: learner.score(stage, *args), out_shardings=replicated(learner.mesh)
        )

    def __call__(self, params: PyTree) -> Score:
        """Every process calls this with the same parameters and gets the same score."""
        sums = np.zeros(3)
        for rows in self._batches:
            part = Rows(*(array[self._mine] for array in rows))
            sums += np.array(jax.device_get(self._program(params, *self._learner.place(part))))
        nats, correct, tokens = map(float, sums)
        return Score(nats, correct, tokens, self._bytes)
