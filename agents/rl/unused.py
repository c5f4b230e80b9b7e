"""Fields that a configuration does not read, and so must not set. Imports no JAX."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from loomax.agents.rl.loss_config import CreditConfig, GroupConfig, GRPOLossConfig
from loomax.models.flow_vla.sampler_config import SamplerConfig

# What only reads one kind of sampler.
LEARNED = ("std_min", "std_max")
DRAWN = ("first_step", "ignore_last")
JOINED = ("steps_reduction", "include_start", "fold")


def refuse_unused(rl: Any, policy: Any, scored: Any) -> None:
    """Raises ValueError for a field that was set and would change nothing.

    Args:
        rl, policy, scored: `rl`, `policy` and `eval` of a `TrainConfig`.
    """
    for name, config, unread, why in (*_of_rl(rl), *_of_policy(rl, policy), *_of_scores(scored)):
        defaults = {field.name: field.default for field in fields(config)}
        for field in unread:
            value, default = getattr(config, field), defaults[field]
            if value != default:
                raise ValueError(f"{name}.{field} is {value!r}, but {why}; leave it at {default!r}")


def _of_rl(rl: Any) -> Iterator[tuple[str, Any, tuple[str, ...], str]]:
    names = lambda config: tuple(field.name for field in fields(config))  # noqa: E731
    if isinstance(rl.loss, GRPOLossConfig):
        why = "GRPO has no critic and compares whole episodes"
        yield "credit", rl.credit, names(CreditConfig), why
        yield "optimiser", rl.optimiser, ("critic_lr",), why
    else:
        yield "group", rl.group, names(GroupConfig), "only GRPO compares groups"
    if not rl.loss.kl_coef:
        yield "loss", rl.loss, ("kl_estimator",), "loss.kl_coef is 0"
    yield from _of_sampler(rl.sampler)


def _of_sampler(sampler: SamplerConfig) -> Iterator[tuple[str, Any, tuple[str, ...], str]]:
    if sampler.kind == "noise":
        why = "sampler.kind='noise' learns its noise and is random in every step"
        yield "sampler", sampler, ("noise_level", "stochastic", *DRAWN), why
    else:
        yield "sampler", sampler, LEARNED, f"sampler.kind={sampler.kind!r} learns no noise"
    if sampler.single:
        yield "sampler", sampler, JOINED, "one step of a chain is random"
    elif sampler.kind != "noise":
        yield "sampler", sampler, DRAWN, "all steps of a chain are random"
    if sampler.kind == "cps" and sampler.single:
        yield "sampler", sampler, ("ignore_last",), "the last step of 'cps' is never random"


def _of_policy(rl: Any, policy: Any) -> Iterator[tuple[str, Any, tuple[str, ...], str]]:
    if not hasattr(policy, "critic"):
        return
    if rl.sampler.kind != "noise":
        why = f"sampler.kind={rl.sampler.kind!r} learns no noise"
        yield "policy", policy, ("noise_hidden",), why
    if policy.critic == "privileged":
        yield "policy", policy, ("detach_critic",), "nothing is learnt behind the true state"


def _of_scores(scored: Any) -> Iterator[tuple[str, Any, tuple[str, ...], str]]:
    if not scored.every:
        yield "eval", scored, ("stop_at",), "eval.every=0 never looks at it"
