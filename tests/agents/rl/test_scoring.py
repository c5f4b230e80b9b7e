"""Scores of a run that is over: newest checkpoint, configuration from its file, one-line errors."""

import dataclasses
import json
import shutil
from dataclasses import replace

import pytest

from loomax.agents.rl.presets import CONFIGS
from loomax.agents.rl.scoring import evaluate_checkpoint, newest_params, read_config
from loomax.agents.rl.toy import point_mass
from loomax.agents.rl.train import Trainer
from loomax.cli import main


def test_the_seed_of_training_gives_its_result_again(finished, capsys):
    run_dir, config, result = finished
    assert main.main(["eval", str(run_dir), "--episodes", "16"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("(16 held-out episodes)")
    # The point mass has one instruction and no images: there is nothing to control for.
    assert [line.split("  ")[0] for line in shown[2:]] == ["after 4 iterations of RL"]
    low, high = result.ci95_after
    assert f"{100 * result.success_after:.1f} %  [{100 * low:.1f}, {100 * high:.1f}]" in shown[2]


def test_other_seeds_are_other_episodes(finished):
    run_dir, *_ = finished
    name = "after 4 iterations of RL"
    scores = [evaluate_checkpoint(run_dir, 64, seed)[name].successes for seed in (1, 1, 2, 3)]
    assert scores[0] == scores[1]
    assert len(set(scores)) > 1


def test_the_newest_checkpoint_is_taken(finished, tmp_path):
    run_dir, config, _ = finished
    copy = shutil.copytree(run_dir, tmp_path / "copy")
    name, params = newest_params(Trainer(config, copy))
    assert name == "after 4 iterations of RL"
    shutil.rmtree(copy / "checkpoints" / "rl")
    name, untrained = newest_params(Trainer(config, copy))
    assert name == "before RL"
    assert (params[0]["leave"]["bias"].get_value() != 0).all()
    assert (untrained[0]["leave"]["bias"].get_value() == 0).all()
    shutil.rmtree(copy / "checkpoints" / "sft")
    with pytest.raises(ValueError, match="has no checkpoint yet; train it first"):
        newest_params(Trainer(config, copy))


def test_another_architecture_is_refused(finished):
    run_dir, config, _ = finished
    other = replace(config, policy=replace(config.policy, width=24))
    with pytest.raises(ValueError, match=r"expected float32\[9, 24\], got float32\[9, 16\]"):
        newest_params(Trainer(other, run_dir))


def test_episodes_that_do_not_divide_are_one_line(finished, capsys):
    run_dir, *_ = finished
    with pytest.raises(SystemExit) as stop:
        main.main(["eval", str(run_dir), "--episodes", "12"])
    assert stop.value.code == 2
    said = "loomax eval: episodes is 12; it must be a positive multiple of the 8 devices"
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize(
    "config",
    [*CONFIGS.values(), point_mass("ppo", "noise"), point_mass("grpo", "cps")],
    ids=lambda config: config.name,
)
def test_configurations_survive_their_file(config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    assert read_config(tmp_path) == config


def test_a_file_of_another_version_is_refused(tmp_path):
    held = dataclasses.asdict(point_mass())
    held["env"]["wind"] = 3.0
    (tmp_path / "config.json").write_text(json.dumps(held))
    with pytest.raises(ValueError, match="env has the fields horizon, .*, wind, those of none of"):
        read_config(tmp_path)
