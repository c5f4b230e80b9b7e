"""Named configs on the command line: overrides, and one line for what is wrong."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from loomax.runtime.config import (
    field_paths,
    merge,
    parse,
    parse_options,
    take_flag,
    take_option,
)


@dataclass(frozen=True)
class Loss:
    lr: float = 1e-3
    kind: Literal["ppo", "grpo"] = "ppo"

    def __post_init__(self):
        if self.lr <= 0:
            raise ValueError(f"lr is {self.lr}: give a positive one")


@dataclass(frozen=True)
class Arm:
    reach: float = 1.0


@dataclass(frozen=True)
class Ball:
    mass: float = 2.0


@dataclass(frozen=True)
class Worlds:
    balls: tuple[Ball, ...] = (Ball(), Ball())
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Config:
    name: str = "small"
    loss: Loss = field(default_factory=Loss)
    sizes: tuple[int, ...] = (1, 2)
    auto_reset: bool = True
    limit: int | None = None
    world: Arm | Ball = field(default_factory=Arm)


NAMED = {"small": Config(), "large": Config("large", Loss(lr=1e-4), (8, 8, 8), world=Ball())}


def run(*argv: str) -> Config:
    return parse(NAMED, argv, "prog", "What it does.")


def error(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        run(*argv)
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    return line


def test_the_first_name_is_the_default():
    assert run() == NAMED["small"]
    assert run("--config", "large") == NAMED["large"] == run("--config=large")


def test_fields_are_overridden_anywhere():
    argv = "--loss.lr 1e-2 --config large --sizes 3 --no-auto-reset --limit 4 --loss.kind=grpo"
    expected = Config("large", Loss(1e-2, "grpo"), (3,), False, 4, Ball())
    assert run(*argv.split()) == expected
    assert run(*argv.split(), "--world.mass", "5").world == Ball(5.0)
    assert run("--no_auto_reset", "--auto_reset") == run()


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("--config lrge", "prog: unknown config 'lrge': did you mean large?"),
        ("--config zzz", "prog: unknown config 'zzz': choose from small, large"),
        ("--config", "prog: --config needs a value"),
        ("--los.lr 1", "prog: unknown field '--los.lr': did you mean --loss.lr?"),
        ("--no-auto-rest", "prog: unknown field '--no-auto-rest': did you mean --auto-reset?"),
        ("--loss.lr abc", "prog: Error parsing --loss.lr: could not convert string to float"),
        ("--loss.lr -1", "prog: Error parsing loss: lr is -1.0: give a positive one"),
        ("--loss.kind sac", "prog: invalid choice 'sac' for argument '--loss.kind'"),
        ("--limit", "prog: Missing value for argument '--limit'"),
        ("stray", "prog: Unrecognized options: stray"),
    ],
)
def test_wrong_use_is_one_line(capsys, argv, line):
    assert error(capsys, *argv.split()).startswith(line)


def test_help_lists_configs_and_fields(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--config", "large", "--help")
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "small, large (here: large)" in shown and "--loss.lr" in shown and "0.0001" in shown


def test_field_paths():
    paths = ["name", "loss", "loss.lr", "loss.kind", "sizes", "auto-reset", "limit"]
    paths += ["world", "world.reach"]
    assert field_paths(Config()) == paths
    assert field_paths(Worlds()) == ["balls", "balls.0.mass", "balls.1.mass", "sizes"]


def test_a_field_inside_of_a_tuple_is_overridden(capsys):
    worlds = parse({"two": Worlds()}, ["--balls.1.mass", "5"], "prog", "What it does.")
    assert worlds == Worlds((Ball(), Ball(5.0)))
    with pytest.raises(SystemExit):
        parse({"two": Worlds()}, ["--balls.1.mas", "5"], "prog", "What it does.")
    assert "did you mean --balls.1.mass?" in capsys.readouterr().err


def test_merge_takes_back_what_json_held():
    config = Config("x", Loss(0.5, "grpo"), (5, 6), False, 3)
    held = json.loads(json.dumps(dataclasses.asdict(config)))
    assert merge(Config(), held) == config
    assert merge(Config(), {"loss": {"lr": 2.0}}) == Config(loss=Loss(2.0))
    with pytest.raises(ValueError, match="unknown field 'siz': did you mean sizes"):
        merge(Config(), {"siz": 1})


@dataclass(frozen=True)
class Newer:
    size: int = 1
    epsilon: float | None = field(default=None, metadata={"absent": 1e-6})


def test_merge_knows_what_was_before_a_field():
    assert merge(Newer(), {"size": 2}) == Newer(2, 1e-6)
    assert merge(Newer(), {"size": 2, "epsilon": None}) == Newer(2)


def test_merge_rebuilds_dataclasses_in_a_tuple():
    worlds = Worlds((Ball(1.0), Ball(5.0)), (3, 4))
    held = json.loads(json.dumps(dataclasses.asdict(worlds)))
    assert merge(Worlds(), held) == worlds


def test_options_and_flags_are_split_off():
    assert take_option(["a", "--x", "1", "--x=2", "b"], "--x", "p") == ("2", ["a", "b"])
    assert take_flag(["a", "--y", "b"], "--y") == (True, ["a", "b"])
    assert take_flag(["a"], "--y") == (False, ["a"])


def test_small_verbs(capsys):
    @dataclass(frozen=True)
    class Options:
        dry_run: bool = False
        count: int = 1

    assert parse_options(Options, ["--count", "3", "--dry-run"], "p", "d") == Options(True, 3)
    with pytest.raises(SystemExit):
        parse_options(Options, ["--cont", "3"], "p", "d")
    assert capsys.readouterr().err == "p: unknown field '--cont': did you mean --count?\n"
