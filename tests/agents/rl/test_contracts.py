"""What joins the stages of a run: seeds, weights, inputs, randomness. The world is a foreign one.

`Line` has what the protocol of `envs/types.py` asks for and an expert, and nothing else.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.rl.config import DemonstrationConfig, FitConfig
from loomax.agents.rl.evaluate import Evaluation
from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.agents.rl.needs import check_env
from loomax.agents.rl.rollout import Transition
from loomax.agents.rl.train import HELD_OUT, MONITOR, Trainer, final_params
from loomax.envs.types import Env, State
from loomax.runtime.metrics import MetricsWriter, read

ENVS, CALLS, ITERATIONS = 16, 4, 2


class Line:
    """A point on a line that must come near its goal; every reset's key is told to `heard`."""

    action_size, proprio_size, privileged_size = 1, 2, 3
    instructions = ("go", "come")
    horizon = 6

    def __init__(self):
        self.heard = []

    def reset(self, *, key):
        words = jax.random.key_data(jax.random.clone(key))
        jax.debug.callback(lambda words: self.heard.append(tuple(words.tolist())), words)
        point, goal, told = jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
        return self._state(point, goal, (told > 0).astype(jnp.int32), jnp.int32(0))

    def step(self, state, action):
        point, goal, told = state.data
        moved = point + 0.3 * jnp.clip(action[0], -1.0, 1.0)
        return self._state(moved, goal, told, state.info["steps"] + 1)

    def render(self, state):
        return {}

    def expert(self, state):
        return jnp.clip((state.data[1] - state.data[0]) / 0.3, -1.0, 1.0)[None]

    def _state(self, point, goal, told, steps):
        success = (jnp.abs(goal - point) < 0.2).astype(jnp.float32) * (steps > 0)
        truncated = (steps >= self.horizon) * (1.0 - success)
        obs = {
            "proprio": jnp.stack([point, goal]),
            "instruction": told,
            "privileged": jnp.stack([point, goal, steps / self.horizon]),
        }
        info = {"steps": steps, "terminated": success, "truncated": truncated, "success": success}
        done = jnp.maximum(success, truncated)
        return State((point, goal, told), obs, success, done, {}, info)


STAGE = {"episodes": ENVS, "steps": 2, "log_every": 1, "batch": ENVS}


def configured(small):
    config = small(chunk=1, calls=CALLS)
    return replace(
        config,
        policy=MLPPolicyConfig(horizon=2, action_dim=1, width=8),
        ground=FitConfig(steps=0),
        sft=DemonstrationConfig(**STAGE, noise_std=0.0),
        rl=replace(config.rl, optimiser=replace(config.rl.optimiser, ema=0.5)),
        iterations=ITERATIONS,
        eval=replace(config.eval, every=1),
    )


class Recorder(Trainer):
    """Keeps the keys of fresh episodes, by who asked for them, and what is scored."""

    def __init__(self, config, run_dir):
        self.line, self.keys, self.scored = Line(), {}, []
        super().__init__(config, run_dir, self.line)

    def during(self, phase, run, *args):
        jax.effects_barrier()
        outer, self.line.heard = self.line.heard, []
        out = jax.block_until_ready(run(*args))
        jax.effects_barrier()
        self.keys.setdefault(phase, []).extend(self.line.heard)
        self.line.heard = outer
        return out

    def evaluate(self, params, seeds, control=0):
        self.scored.append((seeds, jax.device_get(params)))
        return super().evaluate(params, seeds, control)

    def monitor(self, *args):
        return self.during("monitoring", super().monitor, *args)

    def report(self, *args):
        return self.during("held-out", super().report, *args)


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """A whole run in the foreign world: the recorder, the last state, the result."""

    def ground(stages, config, params, *, on_log, key):
        stages.gather(config, key=key)
        return params

    run_dir = tmp_path_factory.mktemp("line")
    with pytest.MonkeyPatch.context() as patch:
        from loomax.agents.rl import train as job

        patch.setattr(job, "SUPERVISED", (("ground", ground), job.SUPERVISED[1]))
        trainer = Recorder(configured(small), run_dir)
        # The world cannot be asked, so this stage only collects.
        trainer.config = replace(trainer.config, ground=FitConfig(**STAGE))
        with trainer.writer() as writer:
            tuned = trainer.during("demonstrations", trainer.tune, writer)
            state, notes = trainer.during("training", trainer.begin, jax.tree.map(jnp.copy, tuned))
            state, notes = trainer.during("training", trainer.improve, state, notes, writer)
        result = trainer.report(tuned, state, notes)
    return trainer, state, result, jax.device_get(tuned)


def test_a_foreign_environment_trains_from_end_to_end(run):
    trainer, state, result, _ = run
    assert isinstance(Line(), Env) and not hasattr(Line, "active_dims")
    assert int(state.step) == ITERATIONS and result.env_steps > 0
    assert result.success_black_images is None and result.success_shuffled_instructions is not None
    rows = read(trainer.run_dir)
    assert sum("sft/loss" in row for row in rows) == 2


def test_no_two_stages_see_the_same_episodes(run):
    keys = run[0].keys
    assert {name: len(found) for name, found in keys.items()} == {
        "demonstrations": 2 * ENVS,
        "training": ENVS * (1 + ITERATIONS * CALLS),
        "monitoring": ITERATIONS * 16,
        # Before, after, and with other instructions.
        "held-out": 3 * 16,
    }
    # Training never repeats an episode; scores of one kind are of the same episodes.
    distinct = {name: set(found) for name, found in keys.items()}
    sizes = {name: len(found) for name, found in distinct.items()}
    assert sizes["demonstrations"] == 2 * ENVS
    assert sizes["training"] == ENVS * (1 + ITERATIONS * CALLS)
    assert sizes["monitoring"] == sizes["held-out"] == 16
    assert len(set().union(*distinct.values())) == sum(sizes.values())


def words(keys):
    return list(map(tuple, np.asarray(jax.random.key_data(keys)).tolist()))


def test_held_out_episodes_follow_from_their_own_seed_alone(small, tmp_path):
    def episodes(**changes):
        trainer = Trainer(replace(configured(small), **changes), tmp_path, Line())
        asked = []
        nothing = Evaluation(*jnp.zeros((3, 1), bool), None)

        def scorer(params, keys, control, *, key):
            asked.append((keys, key))
            return nothing.replace(steps=jnp.zeros(1, jnp.int32))

        trainer.scorer = scorer
        trainer.evaluate((), HELD_OUT)
        trainer.evaluate((), MONITOR)
        return [words(keys) for keys, _ in asked], asked

    (held, monitor), asked = episodes()
    assert episodes(seed=7)[0] == [held, monitor]
    other = replace(configured(small).eval, seed=7)
    assert not set(held) & set(episodes(eval=other)[0][0]) and not set(held) & set(monitor)
    for keys, noise in asked:
        # A folded number gives what splitting has at its place, so the streams must be apart.
        folded = jax.vmap(lambda t, key=noise: jax.random.fold_in(key, t))(jnp.arange(100))
        assert not set(words(folded)) & set(words(keys))


def test_what_is_scored_and_shipped_is_the_average(run):
    trainer, state, _, tuned = run
    state = jax.device_get(state)
    assert not equal(state.average, state.trained) and not equal(state.average, tuned[0])
    *monitored, before, after, told = trainer.scored
    assert [seeds for seeds, _ in trainer.scored] == [MONITOR] * ITERATIONS + [HELD_OUT] * 3
    assert equal(before[1][0], tuned[0])
    for _, params in (monitored[-1], after, told):
        assert equal(params, (state.average, state.frozen))
    assert equal(final_params(state), (state.average, state.frozen))


def equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_success_counts_ended_episodes_only():
    from loomax.agents.rl.iteration import experience_metrics

    flags = lambda *rows: jnp.array(rows, bool)  # noqa: E731
    ended = flags([0, 1, 0], [0, 0, 1])
    steps = Transition(
        **dict.fromkeys(("source", "privileged", "chain", "index", "log_prob", "next_value")),
        terminated=ended,
        truncated=flags([0, 0, 0], [1, 0, 0]),
        success=flags([0, 1, 1], [0, 1, 0]),
        broken=flags([0, 0, 0], [0, 1, 0]),
        reward=jnp.ones((2, 3, 2)),
        valid=jnp.ones((2, 3, 2), bool).at[1, 1].set(False),
        value=jnp.ones((2, 3)),
    )
    found = experience_metrics(steps)
    # Three ends, one of them solved; two calls say success where nothing ended.
    assert (found["episodes"], found["broken"], found["env_steps"]) == (3, 1, 10)
    assert found["success"] == pytest.approx(1 / 3) and found["reward"] == pytest.approx(10 / 3)


def test_an_episode_counts_as_solved_only_if_it_ended(small, parts_of):
    class Teasing(Line):
        """Says success in every step, and ends only in its last, where it takes it back."""

        def _state(self, *args):
            state = super()._state(*args)
            over = (state.info["steps"] >= self.horizon).astype(jnp.float32)
            info = state.info | {"truncated": over, "terminated": 0 * over, "success": 1 - over}
            return state.replace(done=over, info=info)

    config = configured(small)
    from loomax.agents.rl.parts import build
    from loomax.runtime.mesh import MeshConfig, make_mesh

    parts = build(config, make_mesh(MeshConfig(), jax.devices()[:1]), env=Teasing())
    params = parts.init_params(key=jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 4)
    played = jax.jit(parts.evaluator)(params, keys, jnp.int32(0), key=jax.random.key(2))
    assert not played.success.any() and (played.steps == Line.horizon).all()


LACKS = [
    (("reset",), {}, "Broken has no reset, which every run needs; see envs/types.py"),
    (("privileged_size",), {}, "Broken has no privileged_size, which every run needs"),
    (("expert",), {}, "Broken has no expert, which the stage sft needs; .* or use sft.steps=0"),
    (
        (),
        {"ground": FitConfig(steps=2, log_every=1)},
        "no relabel, pointing, which the stage ground",
    ),
]


@pytest.mark.parametrize(("names", "changes", "said"), LACKS)
def test_what_is_missing_is_named_before_anything_compiles(names, changes, said, small):
    body = {name: getattr(Line, name) for name in dir(Line) if not name.startswith("__")}
    body |= {"__init__": Line.__init__}
    lacking = type("Broken", (), {k: v for k, v in body.items() if k not in names})
    config = configured(small)
    with pytest.raises(ValueError, match=said):
        check_env(lacking(), replace(config, **changes))


def test_states_that_do_not_fit_are_named(small):
    config = configured(small)

    def refusal(name, change):
        def altered(self, *args, **kwargs):
            return change(getattr(Line, name)(self, *args, **kwargs))

        with pytest.raises(ValueError) as caught:
            check_env(type("Odd", (Line,), {name: altered})(), config)
        return str(caught.value)

    without = lambda s: s.replace(obs={k: v for k, v in s.obs.items() if k != "proprio"})  # noqa: E731
    assert "observation whose 'proprio' is missing; every run needs it" in refusal("reset", without)
    short = lambda s: s.replace(obs=dict(s.obs, privileged=s.obs["proprio"]))  # noqa: E731
    assert "'privileged' is (2,); every run needs it of shape (3,)" in refusal("reset", short)
    bare = lambda s: s.replace(info={"steps": s.info["steps"]})  # noqa: E731
    assert "info has no terminated, truncated, success" in refusal("reset", bare)
    other = lambda s: s.replace(done=s.done > 0)  # noqa: E731
    assert "Odd.step gives a state whose .done is bool[], but reset gives" in refusal("step", other)
    video = replace(config, eval=replace(config.eval, video_episodes=1))
    with pytest.raises(ValueError, match="no image, which the video needs"):
        check_env(Line(), video)


def test_rows_of_lost_work_are_cut_in_every_stage(small, tmp_path, monkeypatch):
    """A run that dies in its second supervised stage, twice, has each row once."""
    deaths = iter([True, True, False])

    def stage(name, dies):
        def fit(stages, config, params, *, on_log, key):
            on_log(1, {"loss": 1.0})
            if dies and next(deaths):
                raise KeyboardInterrupt
            on_log(2, {"loss": 0.5})
            return params

        return name, fit

    monkeypatch.setattr(
        "loomax.agents.rl.train.SUPERVISED", (stage("ground", False), stage("sft", True))
    )
    for _ in range(3):
        trainer = Trainer(configured(small), tmp_path, Line())
        trainer.config = replace(trainer.config, ground=FitConfig(**STAGE))
        with trainer.writer() as writer:
            assert isinstance(writer, MetricsWriter)
            try:
                trainer.tune(writer)
            except KeyboardInterrupt:
                continue
    found = [(row["step"], *(name for name in row if "/" in name)) for row in read(tmp_path)]
    assert found == [(1, "ground/loss"), (2, "ground/loss"), (1, "sft/loss"), (2, "sft/loss")]


def test_failed_environments_are_told_and_count_as_not_solved(capsys):
    from loomax.agents.rl.train import score_of

    played = Evaluation(jnp.array([True, False, False]), jnp.ones(3, jnp.int32),
                        jnp.array([False, True, False]), None)  # fmt: skip
    assert score_of(played).successes == 1 and score_of(played).trials == 3
    assert "1 of 3 episodes ended in a state that is not finite" in capsys.readouterr().out
