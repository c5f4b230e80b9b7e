"""Configurations whose batches divide over more devices than they were made for."""

import math
from dataclasses import replace

from loomax.agents.pretrain.config import PretrainConfig
from loomax.agents.rl.config import TrainConfig

Config = PretrainConfig | TrainConfig


def grown(config: Config, devices: int) -> Config:
    """The same configuration with every batch at its least multiple that divides over `devices`.

    Rows of a language model lie on the replica and fsdp axes only. The optimisation is another one
    where a batch grows: this is for judging memory and traffic.
    """
    if isinstance(config, PretrainConfig):
        replica, fsdp, _, _ = config.mesh.sizes(devices)
        shards = replica * fsdp
        stages = tuple(
            replace(s, batch=math.lcm(s.batch, shards * s.accumulate)) for s in config.stages
        )
        return replace(config, stages=stages)
    rollout = config.rl.rollout
    return replace(
        config,
        ground=replace(
            config.ground,
            batch=math.lcm(config.ground.batch, devices),
            episodes=math.lcm(config.ground.episodes, devices),
        ),
        sft=replace(
            config.sft,
            batch=math.lcm(config.sft.batch, devices),
            episodes=math.lcm(config.sft.episodes, devices),
        ),
        rl=replace(config.rl, rollout=replace(rollout, envs=math.lcm(rollout.envs, devices))),
        eval=replace(config.eval, episodes=math.lcm(config.eval.episodes, devices)),
    )
