"""The phases of a run as a pure state machine: aggressive, then verified, then off.

A run never goes back (SPAgent, arXiv 2511.20048, section III). What ends the aggressive phase
beyond the score is ours: an answer, an observation that tells nothing new, a failed tool.
"""

from dataclasses import dataclass, replace
from typing import Literal

from loomax.agents.search.speculate.config import SpeculationConfig

Phase = Literal["aggressive", "verified", "off"]
Draft = Literal["call", "answer", "malformed", "failed"]


@dataclass(frozen=True)
class PhaseState:
    """Where a run is.

    Args:
        unverified: steps that were taken without reasoning.
        misses: verified steps in a row whose drafts were all wrong.
        reason: why the phase before ended.
    """

    phase: Phase
    unverified: int = 0
    misses: int = 0
    reason: str = ""


def start(config: SpeculationConfig) -> PhaseState:
    """The first state of a run."""
    if config.aggressive:
        return PhaseState("aggressive")
    return _verified(PhaseState("off"), config, "")


def accepts(config: SpeculationConfig, draft: Draft, confidence: float) -> str:
    """Why a draft may not be taken unverified; empty if it may. A final answer never may."""
    if draft != "call":
        return f"the draft is no call: {draft}"
    if not confidence >= config.threshold:
        return f"confidence {confidence:.2f} is below {config.threshold:.2f}"
    return ""


def leave(state: PhaseState, config: SpeculationConfig, reason: str) -> PhaseState:
    """Ends the aggressive phase."""
    return _verified(state, config, reason)


def after_unverified(
    state: PhaseState, config: SpeculationConfig, *, ok: bool, empty: bool, repeated: bool
) -> PhaseState:
    """The state after a step that was taken without reasoning.

    Args:
        ok: whether the tool gave a result.
        empty, repeated: whether the result told nothing, or nothing new.
    """
    taken = replace(state, unverified=state.unverified + 1)
    reasons = {
        "the tool failed": not ok,
        "nothing was found": ok and empty,
        "nothing new was found": ok and repeated,
        f"{config.aggressive} unverified steps are the most": taken.unverified >= config.aggressive,
    }
    reason = next((words for words, true in reasons.items() if true), "")
    return _verified(taken, config, reason) if reason else taken


def after_verified(state: PhaseState, config: SpeculationConfig, *, hit: bool) -> PhaseState:
    """The state after a verified step that had drafts."""
    misses = 0 if hit else state.misses + 1
    if state.phase == "verified" and misses >= config.patience:
        return PhaseState("off", state.unverified, misses, f"{misses} steps without a hit")
    return replace(state, misses=misses)


def _verified(state: PhaseState, config: SpeculationConfig, reason: str) -> PhaseState:
    phase = "verified" if config.drafts else "off"
    return PhaseState(phase, state.unverified, 0, reason)
