"""The house: who may import whom, how long things may be, and what must stay free of JAX."""

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("agents", "envs", "jaxlib_ext", "memory", "models", "nas")
# Lower to higher: a file imports from its own room and from those before it.
ORDER = ("jaxlib_ext", "runtime", "memory", "models", "envs", "nas", "agents", "cli")
# Worlds know no policy.
APART = {("envs", "models"), ("envs", "memory")}
# The entry points of the import root; they hold no code of a room.
TOP = {"loomax/__init__.py": "runtime", "loomax/__main__.py": "cli"}


def room_of(path: str) -> str:
    """The room of a file, given relative to the root."""
    parts = Path(path).parts
    return TOP.get(path) or (parts[1] if parts[0] == "loomax" else parts[0])


@cache
def sources() -> tuple[str, ...]:
    folders = [ROOT / room for room in ROOMS]
    folders += [ROOT / "loomax" / "runtime", ROOT / "loomax" / "cli"]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    return tuple(sorted([str(path.relative_to(ROOT)) for path in files] + list(TOP)))


@cache
def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), path)


def imports(module: ast.Module) -> list[tuple[int, str]]:
    """(level, dotted name) of every import, those inside functions too."""
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.level, f"{node.module or ''}.{alias.name}") for alias in node.names]
    return found


def faults_of(path: str, module: ast.Module) -> list[str]:
    """What is wrong with the imports of one file."""
    room, faults = room_of(path), []
    for level, name in imports(module):
        parts = name.split(".")
        if level:
            faults.append(f"{path}: relative import of {name}")
        if parts[0] in ROOMS:
            faults.append(f"{path}: imports {name}, which is loomax.{name}")
        if name.startswith("jax._src"):
            faults.append(f"{path}: imports {name}, which is private")
        if parts[0] != "loomax" or parts[1:2] == ["__version__"] or len(parts) == 1:
            continue
        if ORDER.index(parts[1]) > ORDER.index(room) or (room, parts[1]) in APART:
            faults.append(f"{path}: {room} may not import {name}")
    return faults


def test_imports_go_downwards():
    assert [fault for path in sources() for fault in faults_of(path, tree(path))] == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("models/x.py", "from loomax.envs import y"),
        ("envs/x.py", "from loomax.models.y import z"),
        ("jaxlib_ext/x.py", "import loomax.runtime.files"),
        ("loomax/runtime/x.py", "def f():\n    from loomax import cli"),
        ("agents/x.py", "from .y import z"),
        ("agents/x.py", "import envs.types"),
        ("agents/x.py", "from jax._src import core"),
    ],
)
def test_the_rule_catches(path, code):
    assert len(faults_of(path, ast.parse(code))) == 1


@pytest.mark.parametrize("room", ROOMS)
def test_links_lead_to_the_rooms(room):
    link = ROOT / "loomax" / room
    assert link.is_symlink() and os.readlink(link) == f"../{room}"
    assert (link / "__init__.py").is_file()


def test_every_folder_of_code_is_a_package():
    folders = {str(Path(path).parent) for path in sources()}
    assert [folder for folder in sorted(folders) if f"{folder}/__init__.py" not in sources()] == []


def test_files_are_short():
    tests = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")]
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in [*sources(), *tests]}
    assert {path: length for path, length in lengths.items() if length > 600} == {}
    middle = sorted(lengths[path] for path in sources())[len(sources()) // 2]
    assert middle <= 150


def test_functions_are_short():
    lengths = {}
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths[f"{path}:{node.lineno} {node.name}"] = node.end_lineno - node.lineno + 1
    assert {name: length for name, length in lengths.items() if length > 100} == {}
    ordered = sorted(lengths.values())
    assert ordered[int(0.9 * len(ordered))] < 50


def is_config(path: str) -> bool:
    name = Path(path).stem
    return name.endswith("config") or name == "presets"


def config_modules() -> list[str]:
    """Files of settings: the command line reads them before JAX may be imported."""
    return [path for path in sources() if is_config(path)]


def test_configs_are_frozen():
    loose = []
    for path in config_modules():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and node.decorator_list:
                written = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
                if "dataclass" in written and "frozen=True" not in written:
                    loose.append(f"{path}: {node.name}")
    assert loose == []


@pytest.mark.multiprocess
def test_configs_and_the_command_line_import_no_jax():
    paths = [*config_modules(), *(path for path in sources() if path.startswith("loomax/cli/"))]
    assert "agents/rl/config.py" in paths and "loomax/runtime/config.py" in paths
    names = []
    for path in paths:
        parts = Path(path).with_suffix("").parts
        dotted = ".".join(parts if parts[0] == "loomax" else ("loomax", *parts))
        names.append(dotted.removesuffix(".__init__"))
    code = f"""
import importlib, sys
for name in {names}:
    importlib.import_module(name)
    if "jax" in sys.modules:
        sys.exit(name + " imports jax")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
