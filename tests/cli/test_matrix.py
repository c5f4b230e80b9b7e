"""Every verb on values that it cannot take: exit code 2, one line that names the fault, no JAX."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loomax.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).resolve().parent))

import matrix  # noqa: E402

CASES = matrix.cases()


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """What every call ended with; all run in one process, in which JAX cannot be imported."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "cli" / "matrix.py"), tmp_path_factory.mktemp("m")],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": "/tmp"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def named(words: list[str], line: str) -> bool:
    """Whether a line names one of a call's options, or a value of one."""
    parts = [part for word in words for part in (word, *word.split("="), word.partition(":")[2])]
    wanted = {part.lstrip("-")[:40] for part in parts} | {"is empty", "usage:", "''"}
    wanted |= {part.rpartition(".")[2] for part in wanted if part.startswith("rl.")}
    said = line.partition(": ")[2].replace("_", "-")
    return any(part.replace("_", "-") in said for part in wanted - {""})


@pytest.mark.multiprocess
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_call_is_one_line_before_anything_begins(name, ended):
    code, said = ended[name]["code"], ended[name]["said"]
    assert code == 2, f"{code}\n{said}"
    (line,) = said.splitlines()
    assert line.startswith("loomax") and len(line) < 1200
    assert named(CASES[name], line), line


def test_every_verb_and_kind_of_fault_is_in_the_matrix():
    verbs = {words[0] for words in CASES.values() if words}
    assert verbs >= {*VERBS}
    assert len(CASES) > 400
