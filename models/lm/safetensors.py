"""Parameters of language models as safetensors files, with the configuration beside them.

Names are the dotted paths of the nested dictionaries; the header's "config" holds `LMConfig` as
JSON. All tensors of a file have one dtype.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from loomax.models.lm.config import LMConfig
from loomax.models.lm.modules import shapes
from loomax.runtime.config import merge

# Any complete configuration: every field of it is replaced by the file's.
_BASE = LMConfig(
    vocab=1, width=2, mlp=1, heads=1, kv_heads=1, head_dim=2, self_layers=1, mixer="attention"
)
_SHORT = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}


def by_name(params: PyTree) -> dict[str, Any]:
    """Leaves by their dotted paths."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def save(path: str | Path, config: LMConfig, params: PyTree) -> None:
    """Writes parameters and configuration; a crash leaves no half of a file.

    Raises:
        ValueError: the parameters are not those of the configuration, or of several dtypes.
    """
    path = Path(path)
    tensors = by_name(params)
    _compare(path, config, {name: tuple(leaf.shape) for name, leaf in tensors.items()})
    _one_dtype(path, {name: str(leaf.dtype) for name, leaf in tensors.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    host = {name: np.ascontiguousarray(leaf) for name, leaf in tensors.items()}
    try:
        save_file(host, partial, metadata={"config": json.dumps(asdict(config))})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_config(path: str | Path) -> LMConfig:
    """The configuration in a file's header.

    Raises:
        ValueError: the file cannot be read, or has no configuration or one of another version.
    """
    with _open(path) as file:
        held = (file.metadata() or {}).get("config")
    if held is None:
        raise ValueError(f"{path} has no configuration in its header: it was not written here")
    return merge(_BASE, json.loads(held))


def load(path: str | Path, config: LMConfig, shardings: PyTree | None = None) -> PyTree:
    """Parameters in `config.param_dtype`.

    Args:
        shardings: where each of them goes, in the structure of the parameters.

    Raises:
        ValueError: the file cannot be read, its tensors have several dtypes, or they are not those
            of the configuration (path, expected and found shape are named).
    """
    wanted, dtype = shapes(config), jnp.dtype(config.param_dtype)
    where = {} if shardings is None else by_name(shardings)
    with _open(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        _compare(path, config, {name: tuple(x.get_shape()) for name, x in slices.items()})
        _one_dtype(path, {name: x.get_dtype() for name, x in slices.items()})
        leaves = [
            jax.device_put(file.get_tensor(name).astype(dtype), where.get(name))
            for name in by_name(wanted)
        ]
    return jax.tree.unflatten(jax.tree.structure(wanted), leaves)


def _open(path: str | Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from None


def _compare(path: str | Path, config: LMConfig, held: Mapping[str, tuple[int, ...]]) -> None:
    wanted = {name: tuple(leaf.shape) for name, leaf in by_name(shapes(config)).items()}
    faults = [
        f"{name}: expected {_show(wanted.get(name))}, got {_show(held.get(name))}"
        for name in sorted(wanted.keys() | held.keys())
        if wanted.get(name) != held.get(name)
    ]
    if faults:
        more = f"; and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise ValueError(f"{path} is not of this model: {'; '.join(faults[:8])}{more}")


def _show(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else str(list(shape))


def _one_dtype(path: str | Path, dtypes: Mapping[str, str]) -> None:
    """Refuses several dtypes, and any that is not a float."""
    first: dict[str, str] = {}
    for name, dtype in sorted(dtypes.items()):
        first.setdefault(_SHORT.get(dtype, dtype), name)
    if len(first) > 1:
        shown = ", ".join(f"{name} is {dtype}" for dtype, name in first.items())
        raise ValueError(f"{path} mixes dtypes ({shown}): convert them to one")
    for dtype, name in first.items():
        if dtype not in _SHORT.values():
            raise ValueError(f"{path}: {name} is {dtype}; use one of {', '.join(_SHORT.values())}")
