"""Every option out of bounds is refused with its value, bound and fix."""

import pytest

from loomax.agents.rl.loss_config import (
    CreditConfig,
    GroupConfig,
    GRPOLossConfig,
    PPOLossConfig,
)


@pytest.mark.parametrize(
    "config", [CreditConfig(), GroupConfig(), PPOLossConfig(), GRPOLossConfig()]
)
def test_defaults_are_accepted(config):
    config.validate()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (CreditConfig(gamma=1.1), r"credit.gamma=1.1 must be in \[0, 1\]"),
        (CreditConfig(lam=-0.1), "credit.lam"),
        (CreditConfig(gamma=float("nan")), "credit.gamma"),
        (CreditConfig(eps=0.0), "credit.eps"),
        (GroupConfig(size=1), "group.size=1 must be at least 2"),
        (GroupConfig(eps=0.0), "group.eps"),
        (GroupConfig(filter_low=0.9, filter_high=0.1), "ascending order"),
        (GroupConfig(filter_low=float("nan")), "ascending order"),
        (PPOLossConfig(level="token", reduction="mean"), 'reduction=.* "sum" at level "token"'),
        (PPOLossConfig(clip_low=0.0), r"clip_low=0.0 must be in \(0, 1\]"),
        (PPOLossConfig(clip_low=1.5), "clip_low"),
        (PPOLossConfig(clip_high=-0.1), "clip_high"),
        (PPOLossConfig(clip_high=float("inf")), "clip_high"),
        (PPOLossConfig(dual_clip=1.1), "dual_clip=1.1 must be above 1 [+] clip_high = 1.2"),
        (PPOLossConfig(log_ratio_bound=0.1), "log_ratio_bound"),
        (PPOLossConfig(dual_clip=3.0, log_ratio_bound=1.0), "log_ratio_bound"),
        (PPOLossConfig(log_ratio_bound=100.0), "log_ratio_bound"),
        (PPOLossConfig(entropy_coef=-1.0), "entropy_coef"),
        (PPOLossConfig(kl_coef=float("nan")), "kl_coef"),
        (PPOLossConfig(value_coef=-0.5), "value_coef"),
        (PPOLossConfig(value_clip=0.0), "value_clip=0.0 must be .* None switches it off"),
        (PPOLossConfig(huber_delta=0.0), "huber_delta"),
        (GRPOLossConfig(clip_low=2.0), "clip_low"),
    ],
)
def test_refused_configs(config, named):
    with pytest.raises(ValueError, match=named):
        config.validate()


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (CreditConfig(), "bootstrap", "final"),
        (PPOLossConfig(), "level", "step"),
        (PPOLossConfig(), "reduction", "max"),
        (GRPOLossConfig(), "kl_estimator", "k4"),
    ],
)
def test_refused_choices(config, name, value):
    # Past the constructor, whose run-time types would speak first in tests.
    object.__setattr__(config, name, value)
    with pytest.raises(ValueError, match=f"{name}={value!r} must be one of"):
        config.validate()
