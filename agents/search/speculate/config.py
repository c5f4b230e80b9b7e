"""Settings of speculation, and named ones. Imports no JAX."""

import math
from dataclasses import dataclass, replace
from typing import Literal

Scorer = Literal["probability", "self"]

MOST_DRAFTS = 4
# Directly sampled actions that equal the reasoned one, by step. The first and last are SPAgent's
# (arXiv 2511.20048, figure 1b, steps 1 and later), those between are assumed.
HIT_RATES = (0.734, 0.5, 0.33, 0.22, 0.15, 0.11)


@dataclass(frozen=True)
class SpeculationConfig:
    """How an agent speculates; without anything it is naive.

    Args:
        drafts: of a verified step at most, beside the reasoning.
        aggressive: unverified steps at most, before the verified ones; 0 is lossless.
        threshold: an unverified step takes a draft of at least this confidence, 0 to 1.
        scorer: confidence is the least token probability of the draft, or the model's own score.
        adaptive: whether drafts are only made where they are expected to pay (level 1).
        drafts_first: whether drafts go ahead of reasoning in the engine's queue (level 2).
        patience: verified steps without a hit in a row, after which a run stops drafting.
        draft_share: of the engine's slots that may be drafts when none is free.
        call_price_s: seconds of latency that one wasted tool call is worth.

    Raises:
        ValueError: a value is out of range.
    """

    name: str = "naive"
    drafts: int = 0
    aggressive: int = 0
    threshold: float = 0.9
    scorer: Scorer = "probability"
    adaptive: bool = False
    drafts_first: bool = False
    patience: int = 1_000_000
    draft_share: float = 0.25
    call_price_s: float = 0.0

    def __post_init__(self):
        if not 0 <= self.drafts <= MOST_DRAFTS or self.aggressive < 0:
            raise ValueError(
                f"drafts is {self.drafts}, aggressive {self.aggressive}: give 0 to {MOST_DRAFTS} "
                "drafts and at least 0 aggressive steps"
            )
        for name in ("threshold", "draft_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 to 1")
        if self.patience < 1 or not 0 <= self.call_price_s < math.inf:
            raise ValueError(
                f"patience {self.patience} must be at least 1, call_price_s {self.call_price_s} "
                "at least 0 and finite"
            )


NAIVE = SpeculationConfig()
PREDICT_VERIFY = SpeculationConfig("predict-verify", drafts=4)
LOSSLESS = SpeculationConfig("lossless", drafts=4, adaptive=True, drafts_first=True)
# More than two steps without reasoning cost right answers (docs/search.md).
TWO_PHASE = SpeculationConfig("two-phase", drafts=4, aggressive=2, adaptive=True, drafts_first=True)


def dial(boldness: float) -> SpeculationConfig:
    """One knob. 0 is lossless; from there to 1 more steps go unverified, on weaker drafts.

    Raises:
        ValueError: it is not 0 to 1.
    """
    if not 0 <= boldness <= 1:
        raise ValueError(f"boldness is {boldness}; it must be 0 (lossless) to 1 (fast)")
    if not boldness:
        return LOSSLESS
    return replace(
        LOSSLESS,
        name=f"bold-{boldness:g}",
        aggressive=math.ceil(6 * boldness),
        threshold=1 - boldness / 2,
    )
