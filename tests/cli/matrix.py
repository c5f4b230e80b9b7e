"""Wrong calls of every verb, made from its options; run all in one process that has no JAX.

`python matrix.py FOLDER` prints what each call ended with, as JSON by name.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from loomax.agents.pretrain.presets import CONFIGS as LM
from loomax.agents.rl.presets import CONFIGS as RL
from loomax.agents.search.train.presets import CONFIGS as SEARCH
from loomax.cli import (
    aot_table,
    bench,
    launch,
    nas_search,
    nas_table,
    plan,
    plan_memory,
    search,
    serve,
)
from loomax.cli import eval as eval_
from loomax.cli import run as run_
from loomax.cli.main import main
from loomax.nas.train.presets import CONFIGS as NAS
from loomax.runtime.options import Place, marks_of

(POSITIONAL,) = Positional[int].__metadata__
# Verb -> its options and a call of it that is right; FOLDER is the workspace.
VERBS: dict[str, tuple[type, str]] = {
    "eval": (eval_.Options, "policy"),
    "eval perplexity": (eval_.LMOptions, "words"),
    "eval needle": (eval_.NeedleOptions, "words"),
    "bench": (bench.Options, "memory"),
    "plan pack": (plan.PackOptions, "buffers.csv"),
    "plan memory": (plan_memory.MemoryOptions, "--config yoco-tiny"),
    "run": (run_.Options, ""),
    "aot table": (aot_table.Options, ""),
    "launch": (launch.LaunchOptions, ""),
    "nas table": (nas_table.Options, ""),
    "nas search": (
        nas_search.Options,
        "--run net --latency-ms 1 --device roofline-v5e",
    ),
    "search index": (search.IndexOptions, "texts"),
    "search find": (search.FindOptions, "words"),
    "search serve": (search.ServeOptions, ""),
    "search ask": (search.AskOptions, "why --url http://localhost:1/v1 --name m"),
    "serve": (serve.Options, "--model words"),
}
# What stands behind the options.
BEHIND = {"run": "-- true", "launch": "-- train --name x --resume"}
# Verbs whose options are the fields of a configuration: wrong ones, of every kind.
CONFIGURED = {
    "train": "--iterations=-1 --rl.optimiser.lr=nan --rl.credit.gamma=2 --rl.rollout.envs=0",
    "train lm": "--log-every=0 --optimiser.clip-norm=nan --stages.0.steps=-1 --data.held-out=2",
    "train search": "--checkpoint-every=0 --optimiser.b1=2 --exam.chains=1e400",
    "nas train": "--steps=-1 --optimiser.lr=nan --data.batch=0 --smoothing=2 --subnets=0",
    "aot train": "--iterations=-1 --rl.rollout.envs=0 --checkpoint-every=0",
    "plan rl": "--devices=-1 --rounds=0 --memory=nan --link= --profile=gone --out=file/x",
}
PLACES = ("file/x", "/proc/x")


def cases() -> dict[str, list[str]]:
    """Name of each call -> its words."""
    found = {}
    for verb, (kind, base) in VERBS.items():
        for name, option in wrong_options(kind):
            rest = without(base.split(), option[0])
            placed = option[0] == "POSITION"
            words = [*verb.split(), *([*option[1:], *rest] if placed else [*rest, *option])]
            found[f"{verb}: {name}"] = [*words, *BEHIND.get(verb, "").split()]
    for verb, wrong in CONFIGURED.items():
        settings = ["--seed=-1", "--seed=4294967296", "--seed=99999999999999999999", "--seed=nan"]
        settings += ["--seed", "--seed=", "--config=none", "--config=", "--banana=1"]
        more = ["--topology", "v5e:2x2"] if verb == "aot train" else []
        if verb.startswith(("train", "nas")):
            settings += ["--name=", "--name=a/b", "--name=..", f"--name={'x' * 300}"]
            settings += ["--runs=", "--runs=file", *(f"--runs={place}" for place in PLACES)]
        for option in [*settings, *wrong.split()]:
            found[f"{verb}: {option[:40]}"] = [*verb.split(), option, *more]
    found |= runs_of_another_kind()
    for words in ("plan", "nas", "search", "aot ", "banana", "train banana", "nas banana"):
        found[f"{words!r} alone"] = words.split(" ")
    for topology in ("v5e", "v5e:0x2", "banana", "v5e:nan"):
        found[f"aot train: --topology={topology}"] = ["aot", "train", "--topology", topology]
        found[f"aot table: {topology}"] = ["aot", "table", "--topologies", topology]
    for target in ("", "v5e:0x2", "cpu:-1", "gpu:h100:9", "gpu:h1000", "tpu:v9"):
        words = "plan memory --config yoco-tiny --target"
        found[f"plan memory: --target={target}"] = [*words.split(), target]
    return found


def wrong_options(kind: type) -> list[tuple[str, list[str]]]:
    """(what is wrong, the words) for each option of a dataclass."""
    found, hints = [], get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        flag, hint = f"--{field.name.replace('_', '-')}", hints[field.name]
        placed = POSITIONAL in getattr(hint, "__metadata__", ())
        for value in wrong_values(hint, field.default):
            shown = f"{field.name if placed else flag}={value}"
            found.append((shown[:60], ["POSITION", value] if placed else [shown]))
        if not placed and bool not in kinds_of(hint):
            found.append((f"{flag} without a value", [flag]))
    return found


def wrong_values(hint: Any, default: Any) -> list[str]:
    """Values of an option that no verb can take."""
    kinds, found = kinds_of(hint), []
    if int in kinds:
        found += ["100000000000000000000", "-1", "nan", "x"]
    if float in kinds:
        found += ["nan", "1e400", "-1", "x"]
    if str in kinds and (default is MISSING or default):
        found += [""]
    if any(isinstance(mark, Place) and mark.kind != "source" for mark in marks_of(hint)):
        found += PLACES
    if any(isinstance(mark, Place) and mark.kind == "source" for mark in marks_of(hint)):
        found += ["gone"]
    return found


def kinds_of(hint: Any) -> set[type]:
    """Plain types in an annotation."""
    if not get_args(hint) or get_origin(hint) is None:
        return {hint} if isinstance(hint, type) else set()
    return set().union(*(kinds_of(part) for part in get_args(hint)))


def without(words: list[str], option: str) -> list[str]:
    """A right call without the option that is going to be wrong."""
    if option == "POSITION":
        return words[1:]
    flag = option.partition("=")[0]
    if flag not in words:
        return words
    at = words.index(flag)
    return words[:at] + words[at + 2 :]


def runs_of_another_kind() -> dict[str, list[str]]:
    """Every verb that takes a run, on every run that it cannot take."""
    takes = {
        "eval": ("policy", "eval"),
        "eval perplexity": ("words", "eval perplexity"),
        "eval needle": ("words", "eval needle"),
        "serve": ("words finder", "serve --model"),
        "search ask": ("words finder", "search ask why --model"),
        "nas search": ("net", "nas search --latency-ms 1 --device roofline-v5e --run"),
        "train": ("policy", "train --resume --name"),
        "train lm": ("words", "train lm --resume --name"),
        "train search": ("finder", "train search --resume --name"),
        "nas train": ("net", "nas train --resume --name"),
    }
    return {
        f"{verb} on {run}": [*call.split(), run]
        for verb, (right, call) in takes.items()
        for run in ("policy", "words", "finder", "net", "hollow", "list", "broken", "gone")
        if run not in right.split() and not (run == "gone" and "--resume" in call)
    }


def make_workspace(folder: Path) -> None:
    """Runs of every kind and some that are none, and files to name."""
    kinds = {"policy": RL["debug"], "words": LM["lm-debug"], "net": NAS["digits-debug"]}
    kinds["finder"] = SEARCH["searcher-debug"]
    texts = {name: json.dumps(asdict(config)) for name, config in kinds.items()}
    texts |= {"hollow": "{}", "list": "[1]", "broken": '{"name" 1}'}
    for name, text in texts.items():
        (folder / "runs" / name).mkdir(parents=True)
        (folder / "runs" / name / "config.json").write_text(text)
    (folder / "file").write_text("a file")
    (folder / "buffers.csv").write_text("id,lower,upper,size\na,0,2,8\nb,1,3,8\n")
    (folder / "texts").mkdir()
    (folder / "texts" / "a.md").write_text("some words")


class Began(BaseException):
    """A call that should have been refused began to work."""


class NoJax:
    """Finds no JAX: whoever imports it has begun to work."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in ("jax", "jaxlib"):
            raise Began(f"imported {name}")


def began(*args: Any, **kwargs: Any) -> None:
    raise Began(f"started {args[:1]}")


class Process(subprocess.Popen):
    """Is not started."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.returncode = 0
        raise Began(f"started {args[:1]}")


def call(words: list[str]) -> dict[str, Any]:
    """Exit code and standard error of one call."""
    said, code = io.StringIO(), None
    signal.alarm(30)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = main(words)
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        code = traceback.format_exc()[-1500:]
    finally:
        signal.alarm(0)
    return {"code": code, "said": said.getvalue()}


def run_all(folder: Path) -> dict[str, dict[str, Any]]:
    """All cases, in a workspace; nothing can start a process or import JAX."""
    make_workspace(folder)
    os.chdir(folder)
    assert "jax" not in sys.modules
    sys.meta_path.insert(0, NoJax())
    signal.signal(signal.SIGALRM, began)
    os.execvpe, subprocess.Popen = began, Process
    return {name: call(words) for name, words in cases().items()}


if __name__ == "__main__":
    print(json.dumps(run_all(Path(sys.argv[1]))))
