"""Configuration of credit assignment and of the policy losses. Imports no JAX.

Granularity of a probability ratio: "chunk" (one for all executed actions of a policy call),
"action" (one per executed step), "token" (one per element of an action). Advantages and values
are one per policy call.

Every field is honoured by `returns.py` or `losses.py`, or refused by `validate`.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["chunk", "action", "token"]
Reduction = Literal["sum", "mean"]
Bootstrap = Literal["truncation", "always", "none"]
KLEstimator = Literal["k1", "k2", "k3"]

# exp overflows float32 at 88.7; the rest is room for the product with an advantage.
MAX_LOG_RATIO_BOUND = 60.0


def _require(holds: bool, name: str, value: Any, bound: str, fix: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value!r} must be {bound}; {fix}")


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    _require(value in choices, name, value, f"one of {', '.join(choices)}", "choose one of them")


def _positive(name: str, value: float, fix: str) -> None:
    _require(math.isfinite(value) and value > 0, name, value, "finite and above 0", fix)


def _coefficient(name: str, value: float) -> None:
    fix = "use 0 to switch the term off"
    _require(math.isfinite(value) and value >= 0, name, value, "finite and at least 0", fix)


@dataclass(frozen=True)
class CreditConfig:
    """From rewards and values to advantages and value targets (generalised advantages).

    A policy call is one step of the decision process; its reward is the sum over executed steps.

    Args:
        gamma: discount per policy call.
        lam: trace decay per policy call.
        bootstrap: which ends of episodes are continued by the value of the final observation:
            those by time limit ("truncation"), all ("always"), or no end ("none").
        normalise: scale advantages to mean 0 and standard deviation 1 over all valid entries.
        eps: added to that standard deviation.
    """

    gamma: float = 0.99
    lam: float = 0.95
    bootstrap: Bootstrap = "truncation"
    normalise: bool = True
    eps: float = 1e-5

    def validate(self) -> None:
        """Raises ValueError for a field out of bounds."""
        _choice("credit.bootstrap", self.bootstrap, ("truncation", "always", "none"))
        for name, value in (("credit.gamma", self.gamma), ("credit.lam", self.lam)):
            _require(0 <= value <= 1, name, value, "in [0, 1]", "typical values are 0.95 to 0.99")
        _positive("credit.eps", self.eps, "the default is 1e-5")


@dataclass(frozen=True)
class GroupConfig:
    """Advantages within groups of episodes that share their initial state (GRPO).

    Args:
        size: episodes of a group.
        eps: added to the standard deviation of a group.
        filter_low: groups with a mean return below it do not train; None keeps them.
        filter_high: groups with a mean return above it do not train; None keeps them.
    """

    size: int = 8
    eps: float = 1e-6
    filter_low: float | None = None
    filter_high: float | None = None

    def validate(self) -> None:
        """Raises ValueError for a field out of bounds."""
        fix = "a group of one has no spread to compare with"
        _require(self.size >= 2, "group.size", self.size, "at least 2", fix)
        _positive("group.eps", self.eps, "the default is 1e-6")
        low = -math.inf if self.filter_low is None else self.filter_low
        high = math.inf if self.filter_high is None else self.filter_high
        fix = "widen the bounds or set one to None"
        pair = (self.filter_low, self.filter_high)
        _require(low <= high, "group.(filter_low, filter_high)", pair, "in ascending order", fix)


@dataclass(frozen=True)
class PolicyLossConfig:
    """The clipped surrogate and its regularisers, shared by PPO and GRPO.

    Args:
        level: granularity of the probability ratio.
        reduction: how element-wise log-ratios join in one ratio. "sum" is the exact joint ratio;
            "mean" divides its logarithm by the number of active elements.
        clip_low, clip_high: the ratio counts within [1 - clip_low, 1 + clip_high].
        dual_clip: with a negative advantage the ratio counts at most this much (Ye et al. 2020,
            arXiv:1912.09729); None for no such bound.
        log_ratio_bound: log-ratios are cut to [-bound, bound], so that exp stays finite; an entry
            beyond the bound gives no gradient.
        entropy_coef: weight of the entropy bonus.
        kl_coef: weight of the divergence from a reference policy.
        kl_estimator: "k1" = d, "k2" = d^2 / 2, "k3" = exp(-d) - 1 + d, with d = log p - log p_ref.
            k1 is unbiased, but its gradient averages to zero on samples of the policy itself.
        length_normalise: episodes weigh equally, however long they are.
    """

    level: Level = "chunk"
    reduction: Reduction = "sum"
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    log_ratio_bound: float = 20.0
    entropy_coef: float = 0.0
    kl_coef: float = 0.0
    kl_estimator: KLEstimator = "k3"
    length_normalise: bool = False

    def validate(self) -> None:
        """Raises ValueError for a field out of bounds or fields that contradict each other."""
        _choice("loss.level", self.level, ("chunk", "action", "token"))
        _choice("loss.reduction", self.reduction, ("sum", "mean"))
        _choice("loss.kl_estimator", self.kl_estimator, ("k1", "k2", "k3"))
        fix = 'one token has nothing to average; set reduction="sum"'
        single = self.level == "token" and self.reduction == "mean"
        _require(not single, "loss.reduction", self.reduction, '"sum" at level "token"', fix)
        fix = "the default is 0.2"
        _require(0 < self.clip_low <= 1, "loss.clip_low", self.clip_low, "in (0, 1]", fix)
        _positive("loss.clip_high", self.clip_high, fix)
        if self.dual_clip is not None:
            bounded = math.isfinite(self.dual_clip) and self.dual_clip > 1 + self.clip_high
            fix = "a typical value is 3; None switches it off"
            bound = f"above 1 + clip_high = {1 + self.clip_high}"
            _require(bounded, "loss.dual_clip", self.dual_clip, bound, fix)
        self._validate_bound()
        _coefficient("loss.entropy_coef", self.entropy_coef)
        _coefficient("loss.kl_coef", self.kl_coef)

    def _validate_bound(self) -> None:
        least = math.log(self.dual_clip or 1 + self.clip_high)
        if self.clip_low < 1:
            least = max(least, -math.log(1 - self.clip_low))
        bound = f"above {least:.3g}, where the clips act, and at most {MAX_LOG_RATIO_BOUND:g}"
        holds = least < self.log_ratio_bound <= MAX_LOG_RATIO_BOUND
        _require(holds, "loss.log_ratio_bound", self.log_ratio_bound, bound, "the default is 20")


@dataclass(frozen=True)
class PPOLossConfig(PolicyLossConfig):
    """The clipped surrogate with a critic.

    Args:
        value_coef: weight of the value loss.
        value_clip: the value counts within this distance of the old one, and the larger loss of
            clipped and unclipped value is taken; None for no clip.
        huber_delta: where the value loss turns from quadratic to linear; None keeps it quadratic.
    """

    value_coef: float = 1.0
    value_clip: float | None = 0.2
    huber_delta: float | None = 10.0

    def validate(self) -> None:
        """Raises ValueError for a field out of bounds or fields that contradict each other."""
        super().validate()
        _coefficient("loss.value_coef", self.value_coef)
        if self.value_clip is not None:
            _positive("loss.value_clip", self.value_clip, "None switches it off")
        if self.huber_delta is not None:
            _positive("loss.huber_delta", self.huber_delta, "None keeps the loss quadratic")


@dataclass(frozen=True)
class GRPOLossConfig(PolicyLossConfig):
    """The clipped surrogate with group advantages and no critic."""
