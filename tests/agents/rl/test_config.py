"""Every refusal names the value and the fix, and the named configurations are not refused."""

from dataclasses import replace
from typing import Any

import pytest

from loomax.agents.rl.config import DemonstrationConfig, FitConfig, TrainConfig
from loomax.agents.rl.loss_config import GRPOLossConfig
from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.agents.rl.policy_config import PolicyConfig
from loomax.agents.rl.presets import CONFIGS
from loomax.agents.rl.toy import point_mass
from loomax.envs.tabletop.config import TabletopConfig
from loomax.models.flow_vla.sampler_config import SamplerConfig
from loomax.runtime.axes import MeshConfig

DEVICES = 8


def changed(config: Any, path: str, value: Any) -> Any:
    """`config` with the field at a dotted path replaced."""
    name, _, rest = path.partition(".")
    if rest:
        value = changed(getattr(config, name), rest, value)
    return replace(config, **{name: value})


FIT = FitConfig(episodes=16, steps=100, batch=16, log_every=50)
SFT = DemonstrationConfig(episodes=16, steps=100, batch=16, log_every=50)
VISUAL = TrainConfig("visual", ground=FIT, sft=SFT)

REFUSED = [
    # rl
    ("rl.rollout.chunk", 3, "rollout.chunk is 3; it must lie in 1..2, the policy's horizon"),
    ("rl.rollout.chunk", 0, "rollout.chunk is 0; it must lie in 1..2"),
    ("rl.rollout.envs", 12, "rollout.envs is 12; it must be a positive multiple of the 8 devices"),
    ("rl.rollout.envs", 0, "rollout.envs is 0; it must be a positive multiple"),
    (
        "rl.rollout.calls",
        6,
        "rollout.calls is 6; it must be a multiple of optimiser.minibatches (4",
    ),
    ("rl.rollout.calls", 0, "rollout.calls is 0; it must be at least 1"),
    ("rl.optimiser.minibatches", 0, "optimiser.minibatches is 0; it must be at least 1 (1 takes"),
    ("rl.optimiser.epochs", 0, "optimiser.epochs is 0; it must be at least 1 (1 reads"),
    ("rl.optimiser.ema", 1.0, "optimiser.ema is 1.0; it must lie in [0, 1) (0 takes"),
    ("rl.sampler", SamplerConfig(kind="ode"), "sampler.kind='ode' has no likelihood; use sde"),
    ("rl.credit.gamma", 1.5, "credit.gamma=1.5 must be in [0, 1]; typical"),
    ("rl.loss.clip_low", -1.0, "loss.clip_low=-1.0 must be in (0, 1]; the default"),
    ("rl.loss", GRPOLossConfig(), "rollout.auto_reset=True breaks groups"),
    # run
    ("eval.episodes", 12, "eval.episodes is 12; it must be a positive multiple of the 8 devices"),
    ("eval.episodes", 0, "eval.episodes is 0; it must be a positive multiple"),
    ("checkpoint_every", 0, "checkpoint_every is 0; it must be at least 1"),
    ("iterations", -1, "iterations is -1; it must be at least 0 (0 only fits"),
    ("mesh", MeshConfig(fsdp=3), "3 x 1 (replica x fsdp x tensor) does not fit 8 devices"),
    # world
    ("ground", FIT, "ground.steps is 100, but an MLP policy has no prefix to ground; use ground"),
    ("sft", SFT, "sft.steps is 100, but the point mass has neither expert nor images; use sft"),
    ("eval.video_episodes", 2, "eval.video_episodes is 2, but the point mass has neither"),
    ("policy", PolicyConfig(), "the point mass, which has no images, and the policy looks at"),
]


def names_of(cases):
    return [f"{path}={value}"[:40] for path, value, _ in cases]


def refusal(config: TrainConfig) -> str:
    with pytest.raises(ValueError) as caught:
        config.validate(DEVICES)
    return str(caught.value)


@pytest.mark.parametrize(("path", "value", "said"), REFUSED, ids=names_of(REFUSED))
def test_what_is_refused(path, value, said):
    assert said in refusal(changed(point_mass(), path, value))


GROUPED = [
    ("rl.group.size", 1, "group.size=1 must be at least 2; a group of one"),
    ("rl.group.size", 24, "rollout.envs is 256; it must be a multiple of group.size (24)"),
    ("rl.rollout.auto_reset", True, "GRPO needs rollout.auto_reset=False"),
    ("env.horizon", 9, "rollout.calls is 4; without auto_reset an iteration plays whole episodes"),
    ("env.horizon", 9, "of env.horizon=9 steps, so with rollout.chunk=2 it must be at least 5"),
]


@pytest.mark.parametrize(("path", "value", "said"), GROUPED, ids=names_of(GROUPED))
def test_what_is_refused_of_groups(path, value, said):
    assert said in refusal(changed(point_mass("grpo"), path, value))


STAGES = [
    ("sft.batch", 12, "sft.batch is 12; it must be a positive multiple of the 8 devices"),
    ("ground.batch", 0, "ground.batch is 0; it must be a positive multiple"),
    ("sft.episodes", 20, "sft.episodes is 20; it must be a positive multiple of the 8 devices"),
    ("ground.steps", 75, "ground.steps is 75; it must be a multiple of ground.log_every (50)"),
    ("sft.steps", -100, "sft.steps is -100; it must be at least 1 (0 skips the stage)"),
    ("ground.log_every", 0, "ground.log_every is 0; it must be at least 1 (the default is 100)"),
]


@pytest.mark.parametrize(("path", "value", "said"), STAGES, ids=names_of(STAGES))
def test_what_is_refused_of_stages(path, value, said):
    VISUAL.validate(DEVICES)
    assert said in refusal(changed(VISUAL, path, value))


def test_a_skipped_stage_is_not_judged():
    skipped = {"steps": 0, "batch": 3, "episodes": 5, "log_every": 0}
    sft = DemonstrationConfig(**skipped)
    replace(VISUAL, ground=FitConfig(**skipped), sft=sft).validate(DEVICES)


def test_an_mlp_cannot_be_grounded_anywhere():
    config = replace(VISUAL, policy=MLPPolicyConfig(horizon=5, action_dim=7))
    assert "use ground.steps=0" in refusal(config)
    replace(config, ground=FitConfig(steps=0)).validate(DEVICES)


POLICIES = [
    (PolicyConfig(), (8, 8), "model.action_dim is 7; the environment's actions have 8 dimensions"),
    (PolicyConfig(), (7, 9), "model.state_dim is 8; the environment's proprioception has 9 number"),
    (MLPPolicyConfig(), (7,), "policy.action_dim is 2; the environment's actions have 7 dimension"),
]


@pytest.mark.parametrize(("policy", "sizes", "said"), POLICIES)
def test_policies_too_narrow_for_their_world(policy, sizes, said):
    with pytest.raises(ValueError, match=r"so use at least that") as caught:
        policy.check(*sizes)
    assert str(caught.value).startswith(said)


def test_a_policy_that_fits_is_not_refused():
    PolicyConfig().check(7, 8)
    MLPPolicyConfig().check(2)


def test_named_configurations_are_sound():
    toys = [point_mass(a, k) for a in ("ppo", "grpo") for k in ("sde", "noise", "cps")]
    for config in (*CONFIGS.values(), *toys):
        for devices in (1, 2, 4, 8):
            config.validate(devices)
    assert all(name == config.name for name, config in CONFIGS.items())
    assert isinstance(CONFIGS["quickstart"].env, TabletopConfig)
