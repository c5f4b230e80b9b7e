"""Demonstrations of a scripted expert, and supervised stages that survive a restart."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.rl.config import DemonstrationConfig, FitConfig
from loomax.agents.rl.demos import Collector, Demonstrations
from loomax.agents.rl.evaluate import Evaluation
from loomax.agents.rl.stages import Stages
from loomax.agents.rl.train import Trainer
from loomax.agents.rl.video import telling_episodes
from loomax.envs.point_mass import PointMass
from loomax.envs.point_mass_config import PointMassConfig
from loomax.envs.vector import VectorEnv
from loomax.runtime.metrics import MetricsWriter

EPISODES, CALLS, CHUNK = 16, 3, 2


class Guided(PointMass):
    """The point mass with an expert, another instruction and something to point at."""

    def expert(self, state):
        return jnp.clip((state.data.goal - state.data.point) / self.config.speed, -1.0, 1.0)

    def relabel(self, state, *, key):
        goal = jax.random.uniform(key, (2,), minval=5.0, maxval=6.0)
        return state.replace(obs=dict(state.obs, proprio=jnp.concatenate([goal, goal])))

    def pointing(self, state):
        return state.obs["proprio"][:2]


@pytest.fixture(scope="module")
def collect():
    venv = VectorEnv(Guided(PointMassConfig(horizon=6)), images=False)
    run = jax.jit(Collector(venv, CALLS, CHUNK))
    keys = jax.random.split(jax.random.key(0), EPISODES)

    def play(noise_std):
        return jax.device_get(run(jax.random.clone(keys), noise_std, key=jax.random.key(1)))

    return play


def test_without_noise_the_samples_are_the_experts_way(collect):
    samples = collect(jnp.float32(0.0))
    assert samples.actions.shape == (CALLS, EPISODES, CHUNK, 2)
    left = samples.obs["proprio"][..., 2:]
    first = np.clip(left / 0.25, -1, 1)
    live = samples.valid[..., 0]
    np.testing.assert_allclose(samples.actions[live][:, 0], first[live], atol=1e-5)
    # The next observation is where these actions lead.
    moved = 0.25 * (samples.actions * samples.valid[..., None]).sum(2)
    np.testing.assert_allclose(left[:-1] - moved[:-1], left[1:], atol=1e-5)
    assert samples.valid[:, :, 0].any() and not samples.valid.all()
    np.testing.assert_array_equal(samples.success, samples.success[:1].repeat(CALLS, 0))


def test_noise_leads_astray_but_what_is_kept_is_the_clean_action(collect):
    clean, noisy = collect(jnp.float32(0.0)), collect(jnp.float32(0.3))
    first = noisy.obs["proprio"][0]
    np.testing.assert_array_equal(first, clean.obs["proprio"][0])
    np.testing.assert_allclose(noisy.actions[0, :, 0], clean.actions[0, :, 0], atol=1e-6)
    assert np.abs(noisy.obs["proprio"][1] - clean.obs["proprio"][1]).max() > 0.02


def test_what_is_asked_is_another_instruction_for_the_same_scene(collect):
    samples = collect(jnp.float32(0.0))
    asked = samples.asked["proprio"]
    assert asked.min() >= 5 and samples.obs["proprio"].max() < 5
    np.testing.assert_array_equal(samples.asked["pointing"], asked[..., :2])
    assert len(np.unique(asked.reshape(-1, 4), axis=0)) == CALLS * EPISODES


def test_as_many_episodes_as_asked_for_and_no_dead_chunk(small, parts_of):
    parts, played = parts_of(small()), []

    def fake(keys, noise_std, *, key):
        played.append((keys.shape[0], noise_std))
        episode = np.arange(16) + 16 * (len(played) - 1)
        valid = np.ones((CALLS, 16, CHUNK), bool)
        valid[2, ::2] = False
        obs = {"episode": np.broadcast_to(episode, (CALLS, 16))}
        return Demonstrations(obs, obs, np.zeros((CALLS, 16, CHUNK, 2)), valid, valid[:, :, 0])

    stages = Stages(parts, fake)
    samples = stages.gather(FitConfig(episodes=24, noise_std=0.2), key=jax.random.key(0))
    assert played == [(16, 0.2), (16, 0.2)]
    episodes, counts = np.unique(samples.obs["episode"], return_counts=True)
    np.testing.assert_array_equal(episodes, np.arange(24))
    np.testing.assert_array_equal(counts, np.where(np.arange(24) % 2, 3, 2))


def test_a_stage_that_ended_is_not_repeated(small, tmp_path, monkeypatch):
    stage = FitConfig(steps=2, log_every=1)
    sft = DemonstrationConfig(steps=2, log_every=1)
    config = replace(small(), ground=stage, sft=sft)
    called = []

    def ground(stages, config, params, *, on_log, key):
        called.append("ground")
        on_log(1, {"loss": 1.0})
        return jax.tree.map(lambda x: x + 1, params)

    def torn(*args, **kwargs):
        raise KeyboardInterrupt

    def fine_tune(stages, config, params, *, on_log, key):
        called.append("sft")
        return jax.tree.map(lambda x: 2 * x, params)

    env = Guided(config.env)
    start = Trainer(config, tmp_path, env)
    wanted = jax.tree.map(lambda x: 2 * (x + 1), start.parts.init_params(key=start.key_of("init")))
    for last in (torn, fine_tune, torn):
        stages = (("ground", ground), ("sft", last))
        monkeypatch.setattr("loomax.agents.rl.train.SUPERVISED", stages)
        trainer = Trainer(config, tmp_path, env)
        with trainer.writer() as writer:
            assert isinstance(writer, MetricsWriter)
            if last is torn and not called:
                with pytest.raises(KeyboardInterrupt):
                    trainer.tune(writer)
            else:
                params = trainer.tune(writer)
                jax.tree.map(np.testing.assert_array_equal, params, wanted)
    assert called == ["ground", "sft"]


def test_the_video_shows_first_what_was_learnt():
    steps = jnp.zeros(5, jnp.int32)
    before = Evaluation(jnp.array([True, False, False, True, False]), steps, steps > 0, None)
    after = Evaluation(jnp.array([True, True, False, False, True]), steps, steps > 0, None)
    np.testing.assert_array_equal(telling_episodes(before, after, 4), [1, 4, 0, 2])
