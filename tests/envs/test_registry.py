"""Environments by name."""

import pytest

from loomax.envs.point_mass import PointMass
from loomax.envs.point_mass_config import PointMassConfig
from loomax.envs.registry import NAMED, make
from loomax.envs.tabletop.config import TabletopConfig
from loomax.envs.tabletop.env import Tabletop


def test_names():
    assert set(NAMED) == {"reach", "pick", "pick-place", "point-mass"}
    assert {NAMED[n].task for n in NAMED if n != "point-mass"} == {"reach", "pick", "pick-place"}


def test_make_by_name_and_by_configuration():
    env = make("point-mass")
    assert isinstance(env, PointMass) and env.config == PointMassConfig()
    env = make(TabletopConfig(task="reach", cubes=1, pool=4, cameras=()))
    assert isinstance(env, Tabletop) and env.horizon == 40


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pick-and-place", "did you mean 'pick-place'"),
        ("reech", "did you mean 'reach'"),
        ("xyz", "known: reach, pick"),
    ],
)
def test_unknown_names_get_a_suggestion(name, words):
    with pytest.raises(ValueError, match=words):
        make(name)
