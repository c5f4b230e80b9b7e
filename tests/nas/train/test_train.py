"""Whole runs of the debug configuration: resumed, spread over devices, scored, taken apart."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.elastic.deploy.files import save_network
from loomax.nas.evolve.judge import scorers_of, supernet_scores
from loomax.nas.space.draw import generator, largest, random_arch
from loomax.nas.train.config import DistillConfig, OptimiserConfig, SamplerConfig
from loomax.nas.train.evaluate import evaluate_arch, evaluator, extract_network, open_run
from loomax.nas.train.learner import to_input
from loomax.nas.train.presets import CONFIGS
from loomax.nas.train.teacher import Teacher
from loomax.nas.train.train import train

DEBUG = CONFIGS["digits-debug"]


def leaves(run: Path) -> list[np.ndarray]:
    """Parameters, and the sampler's memory, of a run's newest checkpoint."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(open_run(run).params)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    return run, train(DEBUG, run)


def test_a_run_leaves_its_artefacts(whole):
    run, result = whole
    assert result.steps == 4 and result.compilations == 1
    assert json.loads((run / "result.json").read_text())["test"] == result.test
    assert set(result.test) == {"smallest", "median", "largest"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3, 4]
    assert [row["step"] for row in rows if "validation/largest" in row] == [2, 4]
    assert (run / "plots" / "learning_curves.png").stat().st_size > 0


def test_a_stopped_run_ends_where_the_whole_one_does(whole, tmp_path):
    """Stopped after the checkpoint of step 2, at the moment when step 3 is written."""
    run, result = whole

    class Stop(Exception):
        pass

    from loomax.nas.train import train as module

    class Stopping(module.Trainer):
        def log(self, number, *rest):
            if number == 3:
                raise Stop
            return super().log(number, *rest)

    trainer = Stopping(DEBUG, tmp_path, module.open_source(DEBUG.data))
    module.write_config(tmp_path / "config.json", DEBUG)
    with trainer.writer() as writer, pytest.raises(Stop):
        trainer.learn(*trainer.begin(), writer)
    again = train(DEBUG, tmp_path)
    assert (again.test, again.loss) == (result.test, result.loss)
    for ours, expected in zip(leaves(tmp_path), leaves(run), strict=True):
        np.testing.assert_array_equal(ours, expected)
    memories = [
        json.loads((folder / "checkpoints/step_00000004/manifest.json").read_text())["leaves"]
        for folder in (tmp_path, run)
    ]
    assert any("scores" in name for name in memories[0]) and memories[0] == memories[1]


def test_a_refused_resume_leaves_the_run_as_it_was(whole, tmp_path):
    run = shutil.copytree(whole[0], tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "step_00000004")
    before = files_of(run)
    for config, message in (
        (dataclasses.replace(DEBUG, seed=7), "was begun with seed 0, not 7"),
        (
            dataclasses.replace(DEBUG, data=dataclasses.replace(DEBUG.data, batch=10**6)),
            "batch",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            train(config, run)
        assert files_of(run) == before
    assert train(DEBUG, run).loss == whole[1].loss


def files_of(run):
    """What a run holds, but for the file of its owner."""
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    return {path: content for path, content in files.items() if path.name != ".owner"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_notice_saves_and_stops(whole, tmp_path, monkeypatch, capsys, number, code):
    from loomax.nas.train import train as module

    class Told(module.MetricsWriter):
        def write(self, step, metrics, prefix=""):
            super().write(step, metrics, prefix)
            if (prefix, step) == ("train/", 1):
                os.kill(os.getpid(), number)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(module, "MetricsWriter", Told)
        train(DEBUG, tmp_path)
    assert stop.value.code == code
    assert "after step 1, which is saved: --resume goes on" in capsys.readouterr().out
    assert train(DEBUG, tmp_path).loss == whole[1].loss


def test_another_configuration_cannot_go_on(whole):
    other = dataclasses.replace(DEBUG, sampler=SamplerConfig("uniform"))
    with pytest.raises(ValueError, match="is of another model or configuration"):
        train(other, whole[0])


@pytest.mark.slow
def test_two_devices_train_as_one(whole, tmp_path):
    """Two teachers side by side, then their student beside an idle device."""
    run, one = whole
    two = train(dataclasses.replace(DEBUG, subnets=2), tmp_path)
    assert two.loss == pytest.approx(one.loss, rel=1e-5)
    for ours, expected in zip(leaves(tmp_path), leaves(run), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def trained(whole):
    return open_run(whole[0])


def test_scores_are_those_of_the_extracted_network(trained):
    arch = random_arch(trained.space, generator(3))
    network = extract_network(trained, arch)
    scorer = trained.scorer("test")
    images = to_input(jnp.asarray(scorer.held_out.images), 8)
    ours = scorer.logits(trained.params, arch)
    np.testing.assert_allclose(ours, network(images), atol=2e-5)
    share = (ours.argmax(-1) == scorer.held_out.labels).mean()
    assert evaluate_arch(trained, arch, "test") == share
    both = evaluator(trained)([arch, largest(trained.space)])
    assert len(both) == 2 and all(isinstance(value, float) for value in both)


def test_a_network_in_a_file_teaches(trained, tmp_path):
    network = extract_network(trained, largest(trained.space))
    path = tmp_path / "network.safetensors"
    save_network(path, network)
    given = jnp.asarray(trained.scorer("test").held_out.images)
    beliefs = Teacher(str(path), 0.5, classes=10)(given)
    logits = np.asarray(network(to_input(given, 8)), np.float64) / 0.5
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(beliefs, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="tells 10 classes apart: give one of 7"):
        Teacher(str(path), 1.0, classes=7)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"steps": 0}, "steps is 0; give at least 1"),
        ({"subnets": 9}, "subnets is 9; give 1 to 8, the devices here"),
        ({"space": "elasticvit"}, "space is 'elasticvit' and data.source 'digits'"),
        ({"sampler": SamplerConfig(nets=1)}, "sampler.nets is 1; give at least 2"),
        ({"distill": DistillConfig(alphas=(0.0, 1.0))}, r"distill.alphas is \(0.0, 1.0\); give"),
        ({"optimiser": OptimiserConfig(warmup=4)}, "optimiser.warmup is 4; give 0 to 3"),
        ({"distill": DistillConfig(alphas=(float("nan"), 1.0))}, r"distill.alphas is \(nan, 1.0"),
        ({"optimiser": OptimiserConfig(lr=float("nan"))}, "optimiser.lr is nan; give a finite"),
        ({"seed": 10**20}, "seed is 100000000000000000000: give 0 to"),
        ({"smoothing": 1.0}, r"smoothing is 1.0; give a value in \[0, 1\)"),
        ({"distill": DistillConfig(teacher="none.network")}, "none.network cannot be read"),
    ],
)
def test_what_is_inconsistent_is_refused(tmp_path, changes, line):
    with pytest.raises(ValueError, match=line):
        train(dataclasses.replace(DEBUG, **changes), tmp_path)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        open_run(tmp_path)


def test_networks_are_judged_by_confidence_and_tested_by_accuracy(whole):
    trained = open_run(whole[0])
    arch, scorers = largest(trained.space), scorers_of(trained)
    judged = {m: supernet_scores(trained, m) for m in ("confidence", "accuracy")}
    for split in ("search", "validation", "test"):
        logits = scorers[split].logits(trained.params, arch).astype(np.float64)
        labels = scorers[split].held_out.labels
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        right = (powers / powers.sum(-1, keepdims=True))[np.arange(len(labels)), labels]
        accuracy = (logits.argmax(-1) == labels).mean()
        expected = {"confidence": right.mean(), "accuracy": accuracy}
        if split == "test":
            expected["confidence"] = accuracy
        for measure, scores in judged.items():
            assert scores([arch], split) == pytest.approx([expected[measure]], abs=1e-6)
