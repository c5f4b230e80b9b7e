"""Limits of a run. Imports no JAX."""

import math
from dataclasses import dataclass
from typing import Literal

from loomax.agents.search.actions.config import BudgetConfig


@dataclass(frozen=True)
class LoopConfig:
    """What one run may take. Lengths are tokens.

    Args:
        steps: turns with tool calls at most; the one after them has to answer.
        faults: turns at most that hold no action.
        context: of a run, with what a turn may add.
        turn, draft: that the model may write.
        observation: that the model gets to read; of each document the beginning. Replies without
            documents may be longer, where a conversation needs one for each call.
        deadline_s: of the whole run.
        temperature: of turns and of the first draft.
        more_temperature: of further drafts, which otherwise would be the same.
        unverified: tools that may be called without reasoning; only read-only ones belong here.
        failure: what the model sees of a failed call: an empty result, or its status.

    Raises:
        ValueError: a value is out of range.
    """

    steps: int = 8
    faults: int = 3
    context: int = 4096
    turn: int = 512
    draft: int = 48
    observation: int = 500
    deadline_s: float = 120.0
    temperature: float = 0.0
    more_temperature: float = 1.0
    unverified: tuple[str, ...] = ("search",)
    failure: Literal["empty", "status"] = "empty"
    budget: BudgetConfig = BudgetConfig()

    def __post_init__(self):
        for name in ("context", "turn", "draft", "observation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1 token")
        if self.steps < 0 or self.faults < 0:
            raise ValueError(f"steps {self.steps} and faults {self.faults} must be at least 0")
        if not 0 < self.deadline_s < math.inf:
            raise ValueError(f"deadline_s is {self.deadline_s}; it must be above 0 and finite")
        if not self.temperature >= 0 or not self.more_temperature >= 0:
            raise ValueError(
                f"temperatures {self.temperature} and {self.more_temperature} must be at least 0"
            )
