"""Environments by name or by configuration."""

import difflib

from loomax.envs.point_mass import PointMass
from loomax.envs.point_mass_config import PointMassConfig
from loomax.envs.tabletop.config import TabletopConfig
from loomax.envs.tabletop.env import Tabletop
from loomax.envs.types import Env

EnvConfig = TabletopConfig | PointMassConfig

NAMED: dict[str, EnvConfig] = {
    "reach": TabletopConfig(task="reach", horizon=20),
    "pick": TabletopConfig(task="pick", horizon=40),
    "pick-place": TabletopConfig(task="pick-place", horizon=60),
    "point-mass": PointMassConfig(),
}


def make(config: str | EnvConfig) -> Env:
    """The environment of a name or a configuration.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    if isinstance(config, str):
        if config not in NAMED:
            near = difflib.get_close_matches(config, NAMED, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(NAMED)}"
            raise ValueError(f"unknown environment {config!r}; {hint}")
        config = NAMED[config]
    return Tabletop(config) if isinstance(config, TabletopConfig) else PointMass(config)
