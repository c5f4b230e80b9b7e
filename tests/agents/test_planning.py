"""A plan of a configuration's iteration, from a profile in a file; and what is refused."""

from dataclasses import replace

import jax
import pytest

from loomax.agents.planning import choose_plan, memory_of, profile_rl
from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.agents.rl.toy import point_mass
from loomax.agents.workflow.plan.tree import Run
from loomax.agents.workflow.profile import Measurement, Profile, StageProfile, write_profile
from loomax.agents.workflow.report import describe

MIB = 2**20
ENVS = 16


@pytest.fixture(scope="module")
def config():
    config = point_mass()
    rollout = replace(config.rl.rollout, envs=ENVS, calls=4)
    optimiser = replace(config.rl.optimiser, epochs=1, minibatches=2, critic_warmup=0)
    rl = replace(config.rl, rollout=rollout, optimiser=optimiser)
    return replace(config, policy=MLPPolicyConfig(width=8, horizon=2), rl=rl)


def profile_of(**seconds):
    """Stages that take so long on one device, half as long on two, and one MiB."""

    def stage(one):
        return StageProfile(tuple(Measurement(ENVS, n, one / n, MIB, MIB) for n in (1, 2)))

    return Profile(jax.devices()[0].device_kind, {k: stage(v) for k, v in seconds.items()})


@pytest.fixture(scope="module")
def traced(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("profiles") / "profile.json"
    write_profile(profile_of(rollout=4.0, returns=0.5, update=2.0), path)
    return profile_rl(config, devices=2, profile=path)


def test_both_devices_halve_the_time(traced):
    choice = choose_plan(traced)
    assert choice.seconds == pytest.approx(6.5 / 2, rel=1e-3)
    text = describe(choice, traced.profile, "toy")
    assert "rollout" in text and "time-shared" in text and "3.25 s an iteration" in text


def test_one_program_is_the_plan_where_memory_allows(traced):
    plan = choose_plan(traced).plan
    assert isinstance(plan, Run) and plan.units == ("rollout", "returns", "update")


def test_a_stage_that_fits_nowhere_is_named(traced):
    with pytest.raises(ValueError, match="fits nowhere|does not fit|short"):
        choose_plan(traced, memory=MIB)


def test_a_profile_of_other_devices_is_refused(config, tmp_path):
    path = tmp_path / "profile.json"
    write_profile(replace(profile_of(rollout=1.0), device_kind="TPU v9"), path)
    with pytest.raises(ValueError, match="TPU v9"):
        profile_rl(config, profile=path)


def test_more_devices_than_there_are_are_refused(config):
    with pytest.raises(ValueError, match="--devices is 99, but 8 are here"):
        profile_rl(config, devices=99)


def test_a_cpu_has_the_machines_memory():
    assert memory_of(jax.devices()[0]) > 2**30
