"""What is built is whole: the sdist, the wheel, and the wheel that is made from the sdist."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from loomax.jaxlib_ext.build import COMPILERS

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="the list of files comes from git"
)


def tracked() -> set[str]:
    """Every file of the package as git knows it, by its installed name."""
    rooms = [path.name for path in (ROOT / "loomax").iterdir() if path.is_symlink()]
    listed = subprocess.check_output(["git", "ls-files", "loomax", *rooms], cwd=ROOT, text=True)
    names = set(listed.splitlines()) - {f"loomax/{room}" for room in rooms}
    return {name if name.startswith("loomax/") else f"loomax/{name}" for name in names}


def built(kind: str, root: Path, folder: Path) -> Path:
    """The path of what hatchling makes of a source tree, in a process of its own."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return built("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, sdist):
    """As `uv build` makes it: from the sdist."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return built("wheel", root, tmp_path_factory.mktemp("wheel"))


def packaged(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return {name for name in archive.namelist() if name.startswith("loomax/")}


def test_the_sdist_has_every_file_once(sdist):
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert sorted(names) == sorted(set(names))
    package = {name for name in names if name.startswith("loomax/")}
    assert package == tracked()
    rest = {"CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", ".gitignore"}
    assert set(names) - package == rest


def test_wheels_have_every_file(wheel, tmp_path):
    assert packaged(wheel) == tracked()
    assert packaged(built("wheel", ROOT, tmp_path)) == tracked()


@pytest.mark.slow
def test_an_installed_wheel_works_away_from_the_sources(wheel, tmp_path):
    """In a new environment that borrows the dependencies of this one, but not its Loomax."""
    home = tmp_path / "environment"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    ours = Path(subprocess.check_output([python, "-c", SITE], text=True).strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(ours)
    import numpy

    (ours / "borrowed.pth").write_text(f"{Path(numpy.__file__).parent.parent}\n")
    # Of the search path of these tests nothing may be seen there.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*words: str) -> str:
        done = subprocess.run(
            [python, *words], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(call("-c", "import loomax; print(loomax.__file__)").strip()).parent.parent == ours
    assert "usage: loomax VERB" in call("-m", "loomax", "--help")
    (tmp_path / "buffers.csv").write_text("id,lower,upper,size\na,0,2,10\nb,1,3,20\nc,2,4,10\n")
    assert "30" in call("-m", "loomax", "plan", "pack", "buffers.csv")
    assert "--rl.optimiser.lr" in call("-m", "loomax", "train", "--help")
    # Read as data of the package.
    tokens = "from loomax.models.tokenizer import default_tokenizer as t; print(t().vocab_size)"
    assert int(call("-c", tokens)) > 256
    call("-m", "loomax.jaxlib_ext.build")
    if any(map(shutil.which, COMPILERS)):
        found = call("-c", "from loomax.jaxlib_ext.library import native; print(native()._name)")
        assert Path(found.strip()).parent == ours / "loomax" / "jaxlib_ext"


SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"
