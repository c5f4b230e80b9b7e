"""Breaks one line at a time and runs the tests that execute it: do they notice?

    make mutants ROOM=agents/rl                        a sample of 40 lines of a room
    python tests/mutants.py agents/rl --count 100 --seed 1
    python tests/mutants.py agents/rl --again runs/mutants/agents-rl.jsonl

First the room's tests run once under `coverage`, to learn which tests execute which line and how
long they take (kept in runs/mutants, and learned anew when a file has changed). Then each mutation
(`tests/mutation.py`) is written into a copy of the project, where the tests of its line run, files
with the quickest first, until one fails. What stays unnoticed is printed with its line. Results are
JSON lines in runs/mutants/ROOM.jsonl: `killed`, `survived`, or `uncovered` (no test executes it).
"""

import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from mutation import Site, mutate, sites  # noqa: E402

OUT = ROOT / "runs" / "mutants"
# A file of tests that takes longer than this is not run whole, only its tests of the line.
WHOLE_FILE_S = 40.0


@dataclass(frozen=True)
class Mutant:
    """A mutation of one file, given relative to the root."""

    path: str
    site: Site

    def described(self) -> str:
        text = (ROOT / self.path).read_text()
        line = text.splitlines()[self.site.line - 1].strip()
        return f"{self.path}:{self.site.line} [{self.site.operator}] {line}  ->  {self.site.text}"


class Coverage:
    """Which tests execute a line, and the seconds that each test takes."""

    def __init__(self, lines: dict[str, dict[str, list[str]]], seconds: dict[str, float]) -> None:
        self.lines = lines
        self.seconds = seconds
        self.of_file = collections.defaultdict(float)
        for test, taken in seconds.items():
            self.of_file[test.split("::")[0]] += taken

    def tests_of(self, mutant: Mutant, limit: float) -> tuple[list[str], float]:
        """(arguments for pytest, their seconds): at least one file, then as many as `limit` takes.

        A line outside of functions runs on import, in no test: all tests of the file count.
        """
        lines = self.lines.get(mutant.path, {})
        span = range(mutant.site.line, mutant.site.end_line + 1)
        nodes = {node for line in span for node in lines.get(str(line), []) if node}
        if not nodes and any(str(line) in lines for line in span):
            nodes = {node for found in lines.values() for node in found if node}
        groups = collections.defaultdict(list)
        for node in sorted(nodes):
            groups[node.split("::")[0]].append(node)
        priced = []
        for file, found in groups.items():
            whole = self.of_file[file] <= WHOLE_FILE_S
            cost = self.of_file[file] if whole else sum(self.seconds.get(n, 0.0) for n in found)
            priced.append((cost, [file] if whole else found))
        chosen, total = [], 0.0
        for cost, arguments in sorted(priced):
            if chosen and total + cost > limit:
                break
            chosen += arguments
            total += cost
        return chosen, total


def sources_of(room: str) -> list[str]:
    """The Python files of a room (a folder) or the one file, as git knows them."""
    listed = subprocess.check_output(["git", "ls-files", room], cwd=ROOT, text=True).split()
    return [path for path in listed if path.endswith(".py")]


def tests_of(room: str, paths: list[str]) -> list[str]:
    """Files of tests in the mirrored folder, and those elsewhere that import a file of the room."""
    names = {f"loomax.{path[:-3].replace('/', '.')}" for path in paths}
    names |= {name.removesuffix(".__init__") for name in names}
    mirrored = f"tests/{room.removesuffix('.py')}"
    found = []
    for path in sources_of("tests"):
        text = (ROOT / path).read_text()
        if not Path(path).name.startswith("test_") or "mutation" in path:
            continue
        if path.startswith(mirrored) or any(f"from {name} import" in text for name in names):
            found.append(path)
    return found


def measured(room: str, paths: list[str], tests: list[str], folder: Path) -> Coverage:
    """The room's coverage, from runs/mutants if nothing has changed since."""
    digest = hashlib.sha256()
    for path in [*paths, *tests]:
        digest.update((ROOT / path).read_bytes())
    kept = OUT / f"{room.replace('/', '-').removesuffix('.py')}.coverage.json"
    if kept.exists() and (found := json.loads(kept.read_text()))["digest"] == digest.hexdigest():
        return Coverage(found["lines"], found["seconds"])
    print(f"coverage of {len(paths)} files by {len(tests)} files of tests ...", flush=True)
    written = folder / "coverage.json"
    environment = {"LOOMAX_MUTANTS": json.dumps({"out": str(written), "paths": paths})}
    done = _pytest(folder, ["-p", "mutants_plugin", *tests], environment, limit=5400)
    if done.returncode:
        raise SystemExit(f"the tests fail without any mutation:\n{done.stdout[-3000:]}")
    found = json.loads(written.read_text())
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"digest": digest.hexdigest(), **found}))
    return Coverage(found["lines"], found["seconds"])


def _pytest(folder: Path, arguments: list[str], environment: dict[str, str], limit: float):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "--durations=0",
        "-p",
        "no:cacheprovider",
    ]
    path = f"{folder}{os.pathsep}{folder / 'tests'}"
    # Hypothesis writes its examples beside the project; mutants must not leave any.
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=limit,
    )


def copied(parent: Path, name: str) -> Path:
    """A copy of the project to mutate, with its native libraries."""
    target = parent / name
    left_out = shutil.ignore_patterns(".git", ".venv*", "runs", "__pycache__", ".hypothesis")
    shutil.copytree(ROOT, target, symlinks=True, ignore=left_out)
    return target


def sample(paths: list[str], count: int, seed: int) -> list[Mutant]:
    """Mutants drawn evenly over operators, and over files by their number of mutations."""
    drawn = random.Random(seed)
    by_operator = collections.defaultdict(list)
    for path in paths:
        for site in sites((ROOT / path).read_text()):
            by_operator[site.operator].append(Mutant(path, site))
    for group in by_operator.values():
        drawn.shuffle(group)
    groups, chosen = [by_operator[name] for name in sorted(by_operator)], []
    while len(chosen) < count and any(groups):
        chosen += [group.pop() for group in groups if group]
    return chosen[:count]


def judge(mutant: Mutant, coverage: Coverage, folder: Path, limit: float) -> dict:
    """Runs the tests of a mutant in a copy, which is whole again afterwards."""
    tests, expected = coverage.tests_of(mutant, limit)
    row = {"path": mutant.path, **asdict(mutant.site), "tests": len(tests)}
    if not tests:
        return {**row, "status": "uncovered", "seconds": 0.0}
    target, begun = folder / mutant.path, time.monotonic()
    source = (ROOT / mutant.path).read_text()
    target.write_text(mutate(source, mutant.site))
    try:
        done = _pytest(folder, tests, {}, limit=120 + 5 * expected)
        status = {0: "survived", 5: "uncovered"}.get(done.returncode, "killed")
    except subprocess.TimeoutExpired:
        status = "killed"
    finally:
        target.write_text(source)
    return {**row, "status": status, "seconds": round(time.monotonic() - begun, 1)}


def run(mutants: list[Mutant], coverage: Coverage, folders: list[Path], options) -> list[dict]:
    """All rows, judged in as many processes as there are copies; progress and survivors printed."""
    free, rows = queue.Queue(), []
    for folder in folders:
        free.put(folder)

    def one(mutant: Mutant) -> dict:
        folder = free.get()
        try:
            return judge(mutant, coverage, folder, options.limit)
        finally:
            free.put(folder)

    with concurrent.futures.ThreadPoolExecutor(len(folders)) as pool:
        running = {pool.submit(one, mutant): mutant for mutant in mutants}
        for future in concurrent.futures.as_completed(running):
            row = future.result()
            rows.append(row)
            killed = sum(row["status"] == "killed" for row in rows)
            print(f"{len(rows)}/{len(mutants)}  killed {killed}", flush=True)
            if row["status"] != "killed":
                print(f"  {row['status']}: {running[future].described()}", flush=True)
    return rows


def table(rows: list[dict]) -> str:
    """Killed of all, a line for each file and one for the whole."""
    counts = collections.defaultdict(lambda: [0, 0])
    for row in rows:
        for name in (row["path"], "all"):
            counts[name][0] += row["status"] == "killed"
            counts[name][1] += 1
    order = [*sorted(set(counts) - {"all"}), "all"]
    return "\n".join(f"{name:50} {counts[name][0]:4} of {counts[name][1]:4}" for name in order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("room", help="a folder or a file, such as agents/rl")
    parser.add_argument("--count", type=int, default=40, help="mutants to draw")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--workers", type=int, default=2, help="mutants at a time")
    parser.add_argument("--limit", type=float, default=120, help="seconds of tests for a mutant")
    parser.add_argument("--again", type=Path, help="a file of rows: run what survived")
    options = parser.parse_args()
    paths = sources_of(options.room)
    if not paths:
        parser.error(
            f"{options.room}: no Python files that git knows; give a room such as agents/rl"
        )
    known = []
    if options.again:
        rows = [json.loads(line) for line in options.again.read_text().splitlines()]
        known = [row for row in rows if row["status"] == "killed"]
        names = Site.__dataclass_fields__
        mutants = [
            Mutant(row["path"], Site(**{name: row[name] for name in names}))
            for row in rows
            if row["status"] != "killed"
        ]
    else:
        mutants = sample(paths, options.count, options.seed)
    with tempfile.TemporaryDirectory() as parent:
        folders = [copied(Path(parent), str(i)) for i in range(options.workers)]
        coverage = measured(options.room, paths, tests_of(options.room, paths), folders[0])
        rows = known + run(mutants, coverage, folders, options)
    out = OUT / f"{options.room.replace('/', '-').removesuffix('.py')}.jsonl"
    out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows))
    print(f"rows: {out}")


if __name__ == "__main__":
    main()
