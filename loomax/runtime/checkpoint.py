"""Checkpoints of a run: whole or absent, checked before they are believed.

Layout of `directory/step_00000012/`, written under another name and then renamed:
    state/         the leaves of the state, by path, in Orbax's format
    meta.json      what the caller wants beside them (JSON)
    manifest.json  shape and dtype of every leaf; size and CRC-32 of every other file

Leaves are stored by their path, not by the classes that hold them, so that a state can be read
after its classes have moved. Typed PRNG keys are stored as their words.
"""

import json
import logging
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint.experimental import v1 as ocp

from loomax.runtime.files import atomic_write, sync_directory

logger = logging.getLogger(__name__)

_NAME = re.compile(r"step_(\d{8,})")


class Checkpointer:
    """Saves and restores a pytree of arrays under `directory`, keeping the newest `keep`.

    With several processes every one of them calls `save` and `restore`, on a shared file system.
    """

    def __init__(self, directory: str | Path, keep: int = 2):
        if keep < 1:
            raise ValueError(f"keep is {keep}: keep at least 1 checkpoint")
        self.directory = Path(directory).resolve()
        self._keep = keep

    def steps(self) -> list[int]:
        """Steps that were saved to the end, oldest first. They may still prove damaged."""
        if not self.directory.is_dir():
            return []
        names = (_NAME.fullmatch(path.name) for path in self.directory.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def latest_step(self) -> int | None:
        """The newest step that is intact, or None when nothing was saved.

        Raises:
            ValueError: checkpoints exist but all of them are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            fault = _fault(self._path(step))
            if fault is None:
                return step
            logger.warning("%s is damaged and was refused: %s", self._path(step), fault)
        if steps:
            raise ValueError(
                f"all {len(steps)} checkpoints in {self.directory} are damaged: "
                "remove the folder to start again"
            )
        return None

    def save(self, step: int, state: Any, meta: dict) -> None:
        """Writes `state` and `meta`; after a crash at any moment the older ones still stand.

        Checkpoints of later steps belong to work that was lost, and are removed.

        Raises:
            ValueError: a leaf is not an array.
        """
        leaves = _by_path(state)
        target, temporary = self._path(step), self.directory / f".writing_{step:08d}"
        if jax.process_index() == 0:
            self.directory.mkdir(parents=True, exist_ok=True)
            for left_over in self.directory.glob(".writing_*"):
                shutil.rmtree(left_over)
            temporary.mkdir()
        _barrier(f"start {step}")
        stored = {path: _words(leaf) for path, leaf in leaves.items() if leaf.size}
        if stored:
            ocp.save(temporary / "state", stored)
        _barrier(f"written {step}")
        if jax.process_index() == 0:
            atomic_write(temporary / "meta.json", json.dumps(meta, indent=2))
            described = {path: _describe(leaf) | _impl(leaf) for path, leaf in leaves.items()}
            manifest = {"step": step, "leaves": described, "files": _checksums(temporary)}
            atomic_write(temporary / "manifest.json", json.dumps(manifest))
            if target.exists():
                shutil.rmtree(target)
            temporary.rename(target)
            sync_directory(self.directory)
            self._prune(step)
        _barrier(f"done {step}")

    def restore(self, abstract_state: Any) -> tuple[int, Any, dict] | None:
        """The newest intact checkpoint as (step, state, meta), or None when there is none.

        A damaged one is refused, said so in the log, and the one before it is tried.

        Args:
            abstract_state: pytree of arrays or jax.ShapeDtypeStruct; the result has its
                structure and, where given, its shardings.

        Raises:
            ValueError: the checkpoint holds another structure, shape or dtype than asked for,
                or checkpoints exist but all of them are damaged.
        """
        step = self.latest_step()
        if step is None:
            return None
        path = self._path(step)
        return step, _load(path, abstract_state), json.loads(_text(path / "meta.json"))

    def _path(self, step: int) -> Path:
        return self.directory / f"step_{step:08d}"

    def _prune(self, newest: int) -> None:
        past = [step for step in self.steps() if step <= newest]
        for step in self.steps():
            if step not in past[-self._keep :]:
                shutil.rmtree(self._path(step))


def _load(path: Path, abstract_state: Any) -> Any:
    wanted = _by_path(abstract_state)
    held = json.loads(_text(path / "manifest.json"))["leaves"]
    _compare(path, {name: _describe(leaf) for name, leaf in wanted.items()}, held)
    targets = {name: _target(leaf) for name, leaf in wanted.items() if np.prod(leaf.shape)}
    loaded = ocp.load(path / "state", targets) if targets else {}
    leaves = [
        _rebuild(leaf, loaded[name], held[name].get("impl"))
        if name in loaded
        else jnp.zeros(leaf.shape, leaf.dtype)
        for name, leaf in wanted.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(abstract_state), leaves)


def _compare(path: Path, wanted: dict, held: dict) -> None:
    faults = []
    for name in sorted(wanted.keys() | held.keys()):
        expected, got = (_show(side.get(name)) for side in (wanted, held))
        if expected != got:
            faults.append(f"{name}: expected {expected}, got {got}")
    if faults:
        more = f"; and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise ValueError(
            f"checkpoint {path} is of another model or configuration: {'; '.join(faults[:8])}{more}"
        )


def _show(leaf: dict | None) -> str:
    return "nothing" if leaf is None else f"{leaf['dtype']}{leaf['shape']}"


def _by_path(tree: Any) -> dict[str, Any]:
    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise ValueError(f"{name} is {leaf!r}: a state holds arrays only; use jnp.asarray")
        leaves[name] = leaf
    return leaves


def _describe(leaf: Any) -> dict:
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _impl(leaf: Any) -> dict:
    return {"impl": str(jax.random.key_impl(leaf))} if _is_key(leaf) else {}


def _words(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
    words = jax.eval_shape(_words, leaf)
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(words.shape, words.dtype, sharding=sharding)


def _rebuild(leaf: Any, words: jax.Array, impl: str | None) -> jax.Array:
    if isinstance(getattr(leaf, "sharding", None), SingleDeviceSharding | None):
        # A loaded array is tied to its device; through the host it may join any mesh.
        words = jnp.asarray(np.asarray(words))
    return words if impl is None else jax.random.wrap_key_data(words, impl=impl)


def _checksums(folder: Path) -> dict[str, list[int]]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): [path.stat().st_size, _crc(path)] for path in files}


def _crc(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while chunk := file.read(2**22):
            value = zlib.crc32(chunk, value)
    return value


def _fault(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint, or None."""
    try:
        manifest = json.loads(_text(folder / "manifest.json"))
        files = manifest["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"manifest.json cannot be read ({error})"
    for name, (size, checksum) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        if _crc(path) != checksum:
            return f"{name} has changed since it was written"
    return None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"checkpoint {name}")
