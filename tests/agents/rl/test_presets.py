"""The named configurations are complete, and the full-size one is as large as it says."""

import jax
import pytest

from loomax.agents.rl.presets import CONFIGS, pi0_tabletop
from loomax.agents.rl.vla_policy import make_vla_policy
from loomax.envs.registry import make
from loomax.models.tokenizer import default_tokenizer

CHIPS = {"pi0-tabletop": 16}


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_are_valid(name):
    config = CONFIGS[name]
    assert config.name == name
    config.validate(CHIPS.get(name, 2))


@pytest.mark.parametrize("name", CONFIGS)
def test_instructions_fit_the_text(name):
    config, encode = CONFIGS[name], default_tokenizer().encode
    room = getattr(config.policy, "model", None)
    if room is None:
        pytest.skip("this policy reads no text")
    lengths = [encode(text, 64)[1].sum() for text in config.env.instructions]
    assert max(lengths) <= room.text_tokens


@pytest.mark.parametrize("name", CONFIGS)
def test_cameras_are_those_of_the_world(name):
    config = CONFIGS[name]
    model = getattr(config.policy, "model", None)
    if model is None:
        pytest.skip("this policy sees nothing")
    sizes = {"scene": config.env.image_size, "wrist": config.env.wrist_size}
    assert {camera.name: camera.size for camera in model.cameras} == {
        name: sizes[name] for name in config.env.cameras
    }


def test_full_size_is_pi0_with_a_frozen_bfloat16_prefix():
    config = pi0_tabletop()
    policy, (trained, frozen) = make_vla_policy(config.policy, config.rl.sampler, make(config.env))
    model = {"trained": trained["vla"], "frozen": frozen["vla"]}
    count = {
        part: sum(leaf.size for leaf in jax.tree.leaves(leaves)) for part, leaves in model.items()
    }
    assert sum(count.values()) == 3_238_048_528  # openpi's pi0
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(trained)} == {"float32"}
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(frozen)} == {"bfloat16"}
    assert 9 * count["trained"] < count["frozen"]
    assert policy.critic == "suffix" and not config.rl.rollout.store_context
