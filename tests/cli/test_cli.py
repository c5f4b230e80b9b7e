"""The command line: verbs, run folders, resuming, and one line for what is wrong."""

import dataclasses
import json
import subprocess
import sys
import threading
import types
from dataclasses import dataclass, field

import pytest

import loomax
from loomax.cli import bench, main, train
from loomax.runtime.axes import MeshConfig
from loomax.runtime.owner import own


@dataclass(frozen=True)
class Optimiser:
    lr: float = 1e-3


@dataclass(frozen=True)
class Config:
    name: str
    optimiser: Optimiser = field(default_factory=Optimiser)
    seed: int = 0
    # By these the configuration of a policy's run is told.
    env: str = "e"
    policy: str = "p"
    rl: str = "r"
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def validate(self, devices: int) -> None:
        assert devices >= 1

    def check_weights(self) -> None:
        """There is nothing to refuse."""


CONFIGS = {"quick": Config("quick"), "full": Config("full", Optimiser(1e-5))}


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Replaces what the verbs call by stand-ins that record their arguments."""
    made: list[tuple] = []

    def fake(name: str, **members):
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)

    def begin(config, run_dir):
        made.append(("train", config, run_dir.name))
        (run_dir / "config.json").write_text(json.dumps(dataclasses.asdict(config)))

    fake("loomax.agents.rl.presets", CONFIGS=CONFIGS)
    fake("loomax.agents.rl.train", train=begin)
    fake("loomax.agents.rl.scoring", evaluate_checkpoint=lambda *a: made.append(("eval", *a)))
    fake("loomax.agents.rl.aot", compile_train=lambda *a: made.append(("aot", *a)))
    monkeypatch.setattr("loomax.runtime.compile.setup_cpu", lambda *_, **__: made.append("setup"))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.chdir(tmp_path)
    return made


def error(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main.main(argv)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_train_takes_the_first_config_and_sets_up_first(calls, tmp_path):
    assert main.main(["train"]) == 0
    assert calls == ["setup", ("train", CONFIGS["quick"], "quick")]
    assert (tmp_path / "runs" / "quick").is_dir()


def test_train_overrides_nested_fields(calls):
    main.main("train --config full --optimiser.lr 1e-4 --seed 3 --name mine".split())
    assert calls[-1] == ("train", Config("full", Optimiser(1e-4), 3), "mine")


def test_runs_are_numbered_and_the_newest_is_resumed(calls):
    for _ in range(2):
        main.main(["train", "--config", "full", "--seed", "5"])
    main.main("train --config full --seed 5 --optimiser.lr 0.25 --resume".split())
    main.main(["train", "--config", "full"])
    made = [call for call in calls if call != "setup"]
    assert [(call[1].seed, call[2]) for call in made] == [
        (5, "full"),
        (5, "full-2"),
        (5, "full-2"),
        (0, "full-3"),
    ]
    assert made[2][1].optimiser == Optimiser(0.25)


def test_a_named_run_is_resumed_with_its_own_config(calls):
    main.main("train --config full --optimiser.lr 0.5 --name mine".split())
    main.main("train --resume --name mine --optimiser.lr 0.25".split())
    assert calls[-1] == ("train", Config("full", Optimiser(0.25)), "mine")


def test_a_run_keeps_its_seed(calls, capsys, tmp_path):
    main.main("train --config full --optimiser.lr 0.5 --name mine".split())
    before = (tmp_path / "runs" / "mine" / "config.json").read_bytes()
    assert "runs/mine was begun with seed 0, not 7: leave --seed out" in error(
        capsys, *"train --resume --name mine --seed 7".split()
    )
    assert (tmp_path / "runs" / "mine" / "config.json").read_bytes() == before
    main.main("train --resume --name mine".split())
    assert calls[-1] == ("train", Config("full", Optimiser(0.5)), "mine")


HOLD = """
import sys
from loomax.runtime.owner import own
with own("runs/mine"):
    print("mine", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def busy(calls):
    """Another process that writes to runs/mine."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD], text=True, **pipes) as process:
        assert process.stdout.readline() == "mine\n"
        yield process
        process.kill()


@pytest.mark.parametrize("verb", ["train", "train --resume"])
def test_a_run_in_use_is_refused_at_once(busy, calls, capsys, verb, tmp_path):
    said = error(capsys, *f"{verb} --name mine".split())
    assert f"runs/mine is in use by process {busy.pid}: wait for it to end (--wait)" in said
    assert calls == [] and not (tmp_path / "runs" / "mine" / "config.json").exists()


def test_a_run_in_use_is_waited_for(busy, calls):
    threading.Timer(0.3, busy.kill).start()
    main.main("train --name mine --config full --seed 3 --wait".split())
    assert calls == ["setup", ("train", dataclasses.replace(CONFIGS["full"], seed=3), "mine")]


def test_a_number_is_not_given_to_two_runs(calls):
    with own("runs/quick"):
        main.main(["train"])
    assert calls[-1][-1] == "quick-2"


def test_several_processes_do_not_wait(calls, capsys, monkeypatch):
    monkeypatch.setenv("LOOMAX_PROCESSES", "2")
    assert "--wait is for one process" in error(capsys, *"train --name mine --wait".split())


def test_resume_starts_what_does_not_exist(calls):
    main.main("train --resume --name new --config full".split())
    assert calls[-1] == ("train", CONFIGS["full"], "new")


def test_a_taken_name_is_refused(calls, capsys):
    main.main(["train", "--name", "mine"])
    assert "runs/mine exists: add --resume" in error(capsys, "train", "--name", "mine")
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("trian", "loomax: unknown verb 'trian': did you mean train?"),
        ("train --config quik", "loomax train: unknown config 'quik': did you mean quick?"),
        ("train --optimizer.lr 1", "loomax train: unknown field '--optimizer.lr': did you mean"),
        ("train --name a/b", "loomax train: run name 'a/b' cannot be a folder"),
        ("eval quick", "loomax eval: no run in runs: train one first"),
        ("eval quick --episodes 0", "loomax eval: --episodes is 0"),
        ("bench rollot", "loomax bench: unknown benchmark 'rollot': did you mean rollout?"),
        ("aot trian --topology v5e:2x2", "loomax aot: unknown program 'trian': did you mean train"),
        ("aot train", "loomax aot: --topology is missing"),
    ],
)
def test_wrong_use_is_one_line(calls, capsys, monkeypatch, argv, line):
    monkeypatch.setattr(bench, "benchmarks", lambda root: ["rollout", "rl-step"])
    assert error(capsys, *argv.split()).startswith(line)
    assert [call for call in calls if call != "setup"] == []


def test_several_processes_need_one_name(calls, capsys, monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    assert "give --name and --resume" in error(capsys, "train", "--resume")
    main.main("train --name mine --resume".split())
    assert calls[-1] == ("train", CONFIGS["quick"], "mine")


def test_errors_of_the_work_are_one_line_unless_debugging(calls, capsys, monkeypatch):
    def broken(config, run_dir):
        raise ValueError("envs is 3:\n  use a multiple of 8")

    monkeypatch.setattr(sys.modules["loomax.agents.rl.train"], "train", broken)
    assert error(capsys, "train") == "loomax train: envs is 3: use a multiple of 8"
    monkeypatch.setenv("LOOMAX_DEBUG", "1")
    with pytest.raises(ValueError, match="envs is 3"):
        main.main(["train"])


def test_eval_finds_runs_by_name_and_by_path(calls, tmp_path, capsys):
    main.main(["train", "--name", "mine"])
    main.main("eval mine --episodes 7 --seed 3".split())
    main.main(["eval", str(tmp_path / "runs" / "mine")])
    (_, path, *numbers), (_, other, *_) = calls[-3], calls[-1]
    assert path.resolve() == other and numbers == [7, 3]
    assert "did you mean mine?" in error(capsys, "eval", "mien")


def test_aot_passes_config_and_topology(calls, monkeypatch):
    monkeypatch.setattr("loomax.cli.aot.check_compiler", lambda: None)
    main.main("aot train --topology v5e:2x2 --config full --seed 2".split())
    assert calls[-1] == ("aot", Config("full", Optimiser(1e-5), 2), "v5e:2x2")


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with one benchmark without parts and one with two."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    assert bench.benchmarks(tmp_path) == []
    (tmp_path / "pyproject.toml").write_text("")
    (folder / "_rows.py").write_text("")
    (folder / "my_case.py").write_text(
        "def main(quick, json_path):\n    json_path.write_text(f'{quick}')\n"
    )
    (folder / "parted.py").write_text(
        "PARTS = {'one': 1, 'two': 2}\n"
        "def main(quick, json_path, only=()):\n    json_path.write_text(' '.join(only) or 'all')\n"
    )
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "benchmarks", raising=False)
    yield tmp_path
    for name in ("benchmarks", "benchmarks.my_case", "benchmarks.parted"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_bench_runs_a_file_of_the_clone(calls, clone):
    assert bench.benchmarks(clone) == ["my-case", "parted"]
    main.main(["bench", "my-case", "--quick", "--json", str(clone / "rows")])
    assert (clone / "rows").read_text() == "True"


def test_bench_runs_some_parts(calls, clone, capsys):
    rows = ["--json", str(clone / "rows")]
    main.main(["bench", "parted", *rows])
    assert (clone / "rows").read_text() == "all"
    main.main(["bench", "parted", "--only", "two", "one", *rows])
    assert (clone / "rows").read_text() == "two one"
    assert "unknown part 'tow': did you mean two?" in error(
        capsys, "bench", "parted", "--only", "tow"
    )
    assert "my-case has no parts" in error(capsys, "bench", "my-case", "--only", "two")


def test_bench_without_a_clone_says_so(calls, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    assert "run from a clone of the repository" in error(capsys, "bench", "rollout")


def test_default_names(tmp_path):
    assert train.default_name(tmp_path, "a", resume=True) == "a"


def test_version_and_help(capsys):
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"loomax {loomax.__version__}\n"
    assert main.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [verb for verb in main.VERBS if f"  {verb} " not in shown] == []
    assert main.main([]) == 2


@pytest.mark.multiprocess
@pytest.mark.parametrize("argv", [["--help"], *([verb, "--help"] for verb in main.VERBS)])
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
    assert done.stdout.startswith("usage: loomax")
