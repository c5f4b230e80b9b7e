"""A fixed network as files that others read: safetensors, Orbax, StableHLO.

network.safetensors  parameters and batch statistics by dotted path; the spec in the header
orbax/               the same leaves, with checksums
network.stablehlo    the whole function, float32 images [batch, side, side, channels] -> logits
                     [batch, classes], for any batch, on CPU, TPU and GPU (`jax.export`)
"""

import json
import struct
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export
from jaxtyping import Array

from loomax.models.elastic.deploy.files import load_network, save_network, spec_from, spec_json
from loomax.models.elastic.deploy.network import Network
from loomax.models.initialise import CountedDraws
from loomax.runtime.checkpoint import Checkpointer
from loomax.runtime.files import atomic_write

PLATFORMS = ("cpu", "tpu", "cuda")
Function = Callable[[Any], Any]


def export_network(folder: Path, network: Network, channels: int) -> dict[str, Path]:
    """Writes all three; kind -> path.

    Args:
        channels: of an image.
    """
    paths = {
        "safetensors": folder / "network.safetensors",
        "orbax": folder / "orbax",
        "stablehlo": folder / "network.stablehlo",
    }
    save_network(paths["safetensors"], network)
    state = nnx.to_pure_dict(nnx.state(network))
    Checkpointer(paths["orbax"], keep=1).save(0, state, {"network": spec_json(network.spec)})
    atomic_write(paths["stablehlo"], _program(network, channels))
    return paths


def load_orbax(folder: Path) -> Network:
    """The network whose leaves `export_network` left in `folder`.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    checkpoints = Checkpointer(folder)
    step = checkpoints.latest_step()
    if step is None:
        raise ValueError(f"{folder} holds no network: give what export_network wrote")
    meta = json.loads((folder / f"step_{step:08d}" / "meta.json").read_text(encoding="utf-8"))
    network = Network(spec_from(meta["network"]), rngs=CountedDraws())
    state = nnx.state(network)
    restored = checkpoints.restore(nnx.to_pure_dict(state))
    assert restored is not None
    nnx.replace_by_pure_dict(state, restored[1])
    nnx.update(network, state)
    return network


def load_stablehlo(path: Path) -> Function:
    """The exported function: images -> logits.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        return jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise ValueError(f"{path} cannot be read as a program: {error}") from None


def reload_errors(paths: Mapping[str, Path], network: Network, images: Any) -> dict[str, float]:
    """For each kind of file, the largest difference of logits after reading it again."""
    read: dict[str, Function] = {
        "safetensors": forward(load_network(paths["safetensors"])),
        "orbax": forward(load_orbax(paths["orbax"])),
        "stablehlo": load_stablehlo(paths["stablehlo"]),
    }
    expected = np.asarray(forward(network)(images))
    return {
        kind: float(np.max(np.abs(np.asarray(function(images)) - expected)))
        for kind, function in read.items()
    }


def forward(network: Network) -> Function:
    """Images -> logits with the stored statistics; networks of one spec share a program."""
    return partial(_run, *nnx.split(network))


@partial(jax.jit, static_argnums=0)
def _run(graph: Any, state: Any, images: Array) -> Array:
    return nnx.merge(graph, state)(images)


def _program(network: Network, channels: int) -> bytes:
    side = network.spec.resolution
    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, side, side, channels), jnp.float32)
    return bytes(export.export(jax.jit(forward(network)), platforms=PLATFORMS)(images).serialize())
