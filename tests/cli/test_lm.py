"""The verbs on language models: `train lm`, `eval perplexity` and `needle`, and on policies."""

import dataclasses
import json
import subprocess
import sys
import types
from dataclasses import dataclass, field

import pytest

from loomax.agents.pretrain.needle_grid import GridConfig
from loomax.cli import main
from loomax.cli.items import take_items
from loomax.runtime.axes import MeshConfig


@dataclass(frozen=True)
class Stage:
    steps: int
    lr: float = 0.1
    end_lr: float = 0.0


@dataclass(frozen=True)
class Config:
    name: str
    stages: tuple[Stage, ...] = ()
    sizes: tuple[int, ...] = (1, 2)
    seed: int = 0
    model: str = "m"
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def validate(self, devices: int) -> None:
        assert devices >= 1

    def check_weights(self) -> None:
        """There is nothing to refuse."""


@dataclass(frozen=True)
class Policy:
    name: str
    seed: int = 0
    nothing: tuple[Stage, ...] = field(default=())
    env: str = "e"
    policy: str = "p"
    rl: str = "r"
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def validate(self, devices: int) -> None:
        assert devices >= 1

    def check_weights(self) -> None:
        """There is nothing to refuse."""


LM = {"tiny": Config("tiny", (Stage(3), Stage(4))), "huge": Config("huge", (Stage(5),))}
POLICIES = {"quickstart": Policy("quickstart")}


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Replaces what the verbs call by stand-ins that record their arguments."""
    made: list[tuple] = []

    def fake(name: str, **members):
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)

    def trainer(kind):
        def begin(config, run_dir):
            made.append((kind, config, run_dir.name))
            (run_dir / "config.json").write_text(json.dumps(dataclasses.asdict(config)))

        return begin

    fake("loomax.agents.rl.presets", CONFIGS=POLICIES)
    fake("loomax.agents.rl.train", train=trainer("policy"))
    fake("loomax.agents.rl.scoring", evaluate_checkpoint=lambda *a: made.append(("eval", *a)))
    fake("loomax.agents.pretrain.presets", CONFIGS=LM)
    fake("loomax.agents.pretrain.train", train=trainer("lm"))
    fake(
        "loomax.agents.pretrain.evaluate",
        evaluate_run=lambda *a: made.append(("score", *a)),
        evaluate_needles=lambda *a, **k: made.append(("needle", *a, k)),
    )
    monkeypatch.setattr("loomax.runtime.compile.setup_cpu", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    return made


def error(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main.main(argv)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_leading_word_says_what_is_trained(calls):
    main.main("train lm".split())
    main.main("train lm --config huge --seed 3 --name mine".split())
    main.main("train --config quickstart --seed 4".split())
    main.main("train policy".split())
    assert calls == [
        ("lm", LM["tiny"], "tiny"),
        ("lm", dataclasses.replace(LM["huge"], seed=3), "mine"),
        ("policy", Policy("quickstart", 4), "quickstart"),
        ("policy", Policy("quickstart"), "quickstart-2"),
    ]


def test_stages_are_changed_one_by_one(calls):
    main.main("train lm --stages.1.steps 9 --stages.0.end-lr=1e-3 --stages.0.lr 0.5".split())
    (_, config, _) = calls[-1]
    assert config.stages == (Stage(3, 0.5, 1e-3), Stage(9))


def test_a_run_is_resumed_with_its_own_stages(calls):
    main.main("train lm --config huge --stages.0.steps 7 --name mine".split())
    main.main("train lm --resume --name mine --stages.0.lr 0.2".split())
    (_, config, name) = calls[-1]
    assert (config.name, config.stages, name) == ("huge", (Stage(7, 0.2),), "mine")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("train ln", "loomax train: unknown kind of model 'ln': did you mean lm?"),
        ("train lm --config tny", "loomax train lm: unknown config 'tny': did you mean tiny?"),
        ("train lm --stages.2.steps 1", "loomax train lm: unknown field '--stages.2.steps'"),
        ("train lm --stages.0.step 1", "loomax train lm: unknown field '--stages.0.step'"),
        ("train lm --stages.0.steps 1.5", "loomax train lm: --stages.0.steps is '1.5': it must be"),
        ("train lm --stages.0.steps", "loomax train lm: --stages.0.steps needs a value"),
        ("eval perplexity tiny", "loomax eval: no run in runs: train one first"),
        ("eval perplexity tiny --rows -1", "loomax eval perplexity: --rows is -1: give at least 0"),
        ("eval needle tiny --factor 0.5", "loomax eval needle: --factor is 0.5: give at least 1"),
        ("eval needle tiny --scaling yan", "loomax eval needle: "),
        ("eval perplexity tiny --episodes 3", "loomax eval perplexity: unknown field '--episodes'"),
    ],
)
def test_wrong_use_is_one_line(calls, capsys, argv, line):
    assert error(capsys, *argv.split()).startswith(line)
    assert calls == []


def test_items_of_other_kinds_are_left_alone():
    config, rest = take_items(LM["tiny"], ["--sizes.0", "3", "--seed", "1"], "x")
    assert config == LM["tiny"] and rest == ["--sizes.0", "3", "--seed", "1"]


def test_runs_are_scored_by_what_they_are(calls, capsys, tmp_path):
    main.main("train lm --name words".split())
    main.main("train --name arm".split())
    main.main("eval perplexity words".split())
    (tmp_path / "some.txt").write_text("a text")
    main.main("eval perplexity words --data some.txt --rows 7".split())
    main.main("eval arm --episodes 7".split())
    *_, first, second, third = calls
    assert [first[0], first[1].name, *first[2:]] == ["score", "words", "", "*", 0]
    assert second[2:] == ("some.txt", "*", 7)
    assert (third[0], third[2]) == ("eval", 7)
    wrong = error(capsys, "eval", "words")
    assert "is the run of a language model, for loomax eval perplexity words" in wrong
    assert "did you mean words?" in error(capsys, "eval", "perplexity", "wrods")


def test_needles_are_asked_for(calls):
    main.main("train lm --name words".split())
    main.main("eval needle words".split())
    main.main("eval needle words --lengths 64 128 --needles 2 --scaling pi --factor 4".split())
    plain, stretched = calls[-2:]
    assert plain[1].name == "words" and plain[2] == GridConfig(())
    assert plain[3:] == ("", "*", {"scaling": "none", "factor": 1.0})
    assert stretched[2] == GridConfig((64, 128), needles=2)
    assert stretched[-1] == {"scaling": "pi", "factor": 4.0}


VERBS = [["train", "lm"], ["eval", "perplexity"], ["eval", "needle"]]


@pytest.mark.multiprocess
@pytest.mark.parametrize("argv", [[*verb, "--help"] for verb in VERBS])
def test_help_answers_without_jax(argv):
    code = f"""
import sys
from loomax.cli.main import main
try:
    main({argv})
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
assert "jax" not in sys.modules, "jax was imported"
assert "grain" not in sys.modules, "grain was imported"
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: loomax {' '.join(argv[:2])}")
