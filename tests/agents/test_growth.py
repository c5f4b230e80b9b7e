"""Batches that divide over a slice."""

import pytest

from loomax.agents.growth import grown
from loomax.agents.pretrain.presets import CONFIGS as PRETRAIN
from loomax.agents.rl.presets import CONFIGS as RL

ALL = {**RL, **PRETRAIN}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("devices", [16, 256])
def test_every_configuration_is_valid_on_a_slice(name, devices):
    config = grown(ALL[name], devices)
    config.validate(devices)
    assert grown(config, devices) == config


def test_what_divides_already_stays():
    assert grown(RL["quickstart"], 1) == RL["quickstart"]
    config = RL["debug"]
    assert grown(config, 3 * config.rl.rollout.envs).rl.rollout.envs == 3 * config.rl.rollout.envs


def test_chips_that_share_a_row_need_no_more_rows():
    config = PRETRAIN["yoco-3b-1m"]
    assert grown(config, 256) == config
