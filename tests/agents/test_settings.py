"""Every number of every shipped configuration, made wrong: refused by name before JAX is asked."""

import dataclasses
import math

import pytest
from jaxtyping import TypeCheckError

from loomax.agents.pretrain.presets import CONFIGS as LM
from loomax.agents.rl.presets import CONFIGS as RL
from loomax.agents.search.train.presets import CONFIGS as SEARCH
from loomax.cli.train import check_early
from loomax.nas.train.presets import CONFIGS as NAS
from loomax.runtime.bounds import check_settings, leaves

# What may be below 0: the rest of the devices, limits of joints, thresholds, exponents.
SIGNED = ("mesh.fsdp", "env.control.low.", "sampler.banks.large_from", "distill.alphas.")


def put(config, path, value):
    """`config` with the number at `path` replaced."""
    head, _, rest = path.partition(".")
    if isinstance(config, tuple):
        place = int(head)
        inner = put(config[place], rest, value) if rest else value
        return (*config[:place], inner, *config[place + 1 :])
    inner = put(getattr(config, head), rest, value) if rest else value
    return dataclasses.replace(config, **{head: inner})


def numbers(config):
    return [
        (path, value)
        for path, value in leaves(config)
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


@pytest.mark.parametrize("named", [RL, LM, SEARCH, NAS], ids=["rl", "lm", "search", "nas"])
def test_no_number_is_taken_unseen(named):
    taken, tried = [], set()
    for config in named.values():
        for path, value in numbers(config):
            for wrong in (-1, 10**20) if isinstance(value, int) else (-1.0, math.nan, math.inf):
                signed = wrong == -1 and path.startswith(SIGNED)
                if signed or (path, wrong) in tried:
                    continue
                tried.add((path, wrong))
                try:
                    made = put(config, path, wrong)
                    # As the command line does.
                    check_settings(made)
                    check_early(made)
                # The other is of a Literal's number, which the command line refuses.
                except (ValueError, TypeCheckError):
                    continue
                taken.append(f"{config.name}: {path} = {wrong}")
    assert taken == [] and len(tried) > 100


@pytest.mark.parametrize("named", [RL, LM, SEARCH, NAS], ids=["rl", "lm", "search", "nas"])
def test_those_that_are_shipped_are_right(named):
    for config in named.values():
        # Of these the user gives what they start from.
        if "init" in {f.name for f in dataclasses.fields(config)} and config.name.startswith(
            ("searcher-score", "searcher-grpo")
        ):
            config = dataclasses.replace(config, init=config.init or "x.safetensors")
        if config.name == "imagenet-folder":
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, path="x"))
        check_early(config)
