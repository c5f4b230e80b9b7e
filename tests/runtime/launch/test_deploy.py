"""The manifests in deploy/ are those that the command in docs/pods.md prints."""

from pathlib import Path

import pytest

from loomax.cli.launch import run

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
COMMON = ["--image", "REGISTRY/loomax:1"]
TRAIN = ["--resume", "--runs", "/runs"]
RANDOM = ["--policy.weights", "random"]
BUCKET = ["--volume", "gs://BUCKET"]


@pytest.mark.parametrize(
    "name, topology, more, command",
    [
        ("pi0-tabletop", "v5e:4x4", [], ["train", "--config", "pi0-tabletop", *RANDOM]),
        ("yoco-3b", "v5p:4x4x4", BUCKET, ["train", "lm", "--config", "yoco-3b"]),
    ],
)
def test_manifests_are_printed_as_they_are_shipped(name, topology, more, command, capsys):
    command = [*command, "--name", name, *TRAIN]
    run(["--jobset", name, "--topology", topology, *COMMON, *more, "--", *command], "loomax launch")
    assert capsys.readouterr().out == (DEPLOY / f"{name}.yaml").read_text()
