"""Checkpoints of a run: whole or absent, checked before they are believed.

Layout of `directory/step_00000012/`, written under another name and then renamed:
    state/         the leaves of the state, by path, in Orbax's format
    meta.json      what the caller wants beside them (JSON)
    manifest.json  shape and dtype of every leaf; size and CRC-32 of every other file; its own
                   CRC-32 (those of before 2026-12 have none, and are read too)

Leaves are stored by their path, not by the classes that hold them, so that a state can be read
after its classes have moved. Typed PRNG keys are stored as their words.
"""

import errno
import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint.experimental import v1 as ocp

from loomax.runtime.files import atomic_write, faults_of_disk, sync_directory
from loomax.runtime.manifest import SEAL, Damaged, checked_manifest, checksums, sealed

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
            if self._intact(step) is not None:
                return step
        if steps:
            raise ValueError(self._all_damaged(len(steps)))
        return None

    def check_room(self, abstract_state: Any) -> None:
        """Refuses to begin where the checkpoints that will stand at once do not fit on the disk.

        Raises:
            OSError: with the bytes that are needed and those that are free.
        """
        size = _bytes(abstract_state)
        # While one is written, all that are kept still stand.
        self._check_free(size * max(1, self._keep + 1 - len(self.steps())))

    def save(self, step: int, state: Any, meta: dict) -> None:
        """Writes `state` and `meta`; after a crash at any moment the older ones still stand.

        Checkpoints of later steps belong to work that was lost, and are removed.

        Raises:
            ValueError: a leaf is not an array.
            OSError: the disk is full, or broken. Nothing half-written is left.
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
        with _cleared(temporary):
            if stored:
                with faults_of_disk(temporary):
                    ocp.save(temporary / "state", stored)
            _barrier(f"written {step}")
            if jax.process_index() == 0:
                atomic_write(temporary / "meta.json", json.dumps(meta, indent=2))
                described = {path: _describe(leaf) | _impl(leaf) for path, leaf in leaves.items()}
                manifest = {"step": step, "leaves": described, "files": checksums(temporary)}
                atomic_write(temporary / "manifest.json", json.dumps(sealed(manifest)))
        if jax.process_index() == 0:
            self._remove(target)
            temporary.rename(target)
            sync_directory(self.directory)
            self._prune(step)
        _barrier(f"done {step}")

    def restore(self, abstract_state: Any) -> tuple[int, Any, dict] | None:
        """The newest intact checkpoint as (step, state, meta), or None when there is none.

        A damaged one is refused, said so in the log, and the one before it is tried. Another
        process may save here in the meantime.

        Args:
            abstract_state: pytree of arrays or jax.ShapeDtypeStruct; the result has its
                structure and, where given, its shardings.

        Raises:
            ValueError: the checkpoint holds another structure, shape or dtype than asked for,
                or checkpoints exist but all of them are damaged.
        """
        tried: set[int] = set()
        refused: Exception | None = None
        # Listed anew each time: what was pruned while it was read has a successor by then.
        while left := [step for step in self.steps() if step not in tried]:
            step = left[-1]
            tried.add(step)
            path, manifest = self._path(step), self._intact(step)
            if manifest is None:
                continue
            try:
                state = _load(path, manifest["leaves"], abstract_state)
                return step, state, json.loads(_text(path / "meta.json"))
            except (OSError, ValueError) as error:
                if self._intact(step) is None:
                    logger.warning("%s went away while it was read: %s", path, error)
                    continue
                # Without a checksum of its own the manifest may be what is damaged.
                if SEAL in manifest:
                    raise
                refused = refused or error
        if refused is not None:
            raise refused
        if tried:
            raise ValueError(self._all_damaged(len(tried)))
        return None

    def _intact(self, step: int) -> dict | None:
        """The manifest of a checkpoint; None, and a line in the log, if anything is damaged."""
        try:
            return checked_manifest(self._path(step))
        except Damaged as fault:
            logger.warning("%s is damaged and was refused: %s", self._path(step), fault)
            return None

    def _all_damaged(self, count: int) -> str:
        return (
            f"all {count} checkpoints in {self.directory} are damaged: "
            "remove the folder to start again"
        )

    def _check_free(self, needed: int) -> None:
        folder = self.directory
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        if free < needed:
            reason = f"{needed} bytes are needed for checkpoints, {free} are free"
            raise OSError(errno.ENOSPC, reason, str(folder))

    def _remove(self, target: Path) -> None:
        """Takes a checkpoint out of sight before it is deleted, so that none is seen in part."""
        if not target.exists():
            return
        hidden = target.with_name(f".writing_old_{target.name}")
        target.rename(hidden)
        shutil.rmtree(hidden)

    def _path(self, step: int) -> Path:
        return self.directory / f"step_{step:08d}"

    def _prune(self, newest: int) -> None:
        past = [step for step in self.steps() if step <= newest]
        for step in self.steps():
            if step not in past[-self._keep :]:
                self._remove(self._path(step))


def _load(path: Path, held: dict, abstract_state: Any) -> Any:
    wanted = _by_path(abstract_state)
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


def _bytes(tree: Any) -> int:
    """Of the arrays, keys as their words."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@contextmanager
def _cleared(folder: Path) -> Iterator[None]:
    """Gives the space of a half-written folder back."""
    try:
        yield
    except BaseException:
        if jax.process_index() == 0:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"checkpoint {name}")
