"""`loomax nas`: its commands, the runs of `nas train`, and one line for what is wrong."""

import dataclasses
import json
import subprocess
import sys
import types

import pytest

from loomax.cli import main
from loomax.nas.train.presets import CONFIGS


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Replaces the training by a stand-in that records its arguments."""
    made: list[tuple] = []

    def train(config, run_dir):
        made.append((config, run_dir.name))
        (run_dir / "config.json").write_text(json.dumps(dataclasses.asdict(config)))

    module = types.ModuleType("loomax.nas.train.train")
    vars(module).update(train=train)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("loomax.runtime.compile.setup_cpu", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    return made


def test_a_run_is_named_and_resumed_with_its_own_config(calls):
    main.main("nas train".split())
    main.main("nas train --config digits-debug --sampler.rule sandwich --name mine".split())
    main.main("nas train --resume --name mine --sampler.banks.nets 5".split())
    main.main("nas train".split())
    names = [name for _, name in calls]
    assert names == ["digits", "mine", "mine", "digits-2"]
    assert calls[0][0] == CONFIGS["digits"]
    resumed = calls[2][0]
    assert (resumed.name, resumed.sampler.rule, resumed.sampler.banks.nets) == (
        "digits-debug",
        "sandwich",
        5,
    )
    assert resumed.sampler.banks.banks == CONFIGS["digits-debug"].sampler.banks.banks


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("nas trian", "loomax nas: unknown command of nas 'trian': did you mean train?"),
        ("nas train --config digit", "loomax nas train: unknown config 'digit': did you mean"),
        ("nas train --sampler.rul uniform", "loomax nas train: unknown field '--sampler.rul'"),
        ("nas train --sampler.rule best", "loomax nas train: "),
        ("nas train --name a/b", "loomax nas: run name 'a/b' cannot be a folder"),
        ("nas train --name", "loomax nas train: --name needs a value"),
    ],
)
def test_wrong_use_is_one_line(calls, capsys, argv, line):
    with pytest.raises(SystemExit) as stop:
        main.main(argv.split())
    assert stop.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(line) and calls == []


def test_a_taken_name_is_refused(calls, capsys):
    main.main("nas train --name mine".split())
    with pytest.raises(SystemExit):
        main.main("nas train --name mine".split())
    assert "runs/mine exists: add --resume" in capsys.readouterr().err


@pytest.mark.multiprocess
@pytest.mark.parametrize("argv", [["nas", "--help"], ["nas", "train", "--help"]])
def test_help_answers_without_jax(argv):
    code = f"""
import sys
from loomax.cli.main import main
try:
    main({argv})
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
assert "jax" not in sys.modules, "jax was imported"
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: loomax nas")
