"""Where an engine's arrays lie on a mesh.

    parameters             `tensor` splits heads, hidden width and vocabulary, `fsdp` the width
    pages, states          `tensor` splits heads
    everything else        whole on every device

An axis that does not divide stays whole.
"""

import math
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from loomax.agents.engine.config import EngineConfig
from loomax.agents.engine.store import Store, empty_store, recurrent
from loomax.models.lm import LMConfig
from loomax.runtime.mesh import FSDP, TENSOR, LogicalAxes, logical_spec

Names = tuple[str | None, ...]

INWARDS, OUTWARDS = ("embed", "heads"), ("heads", "embed")
# Logical axes of a parameter's last dimensions, by its name; others are small and stay whole.
MIXER: dict[str, Names] = {
    **dict.fromkeys(("q", "k", "v", "qkv", "gate", "beta", "decay"), INWARDS),
    "out": OUTWARDS,
    # Of latent attention: the latent has no heads.
    "down": ("embed", None),
    "up_k": (None, "heads"),
    "up_v": (None, "heads"),
}
HIDDEN: dict[str, Names] = {
    "gate": ("embed", "mlp"),
    "up": ("embed", "mlp"),
    "down": ("mlp", "embed"),
}
ENDS: dict[str, Names] = {"embedding": ("vocab", "embed"), "head": ("embed", "vocab")}


def check_mesh(model: LMConfig, mesh: Mesh) -> None:
    """Refuses a mesh that a model cannot be spread over.

    Raises:
        ValueError: it has no axes `fsdp` and `tensor`, `tensor` does not divide heads, or it
            reaches beyond this process.
    """
    for axis in (FSDP, TENSOR):
        if axis not in mesh.shape:
            raise ValueError(
                f"a mesh of axes {', '.join(mesh.axis_names)} has no {axis!r}: use make_mesh"
            )
    if mesh.is_multi_process:
        raise ValueError(
            f"a mesh of {mesh.size} devices lies in several processes, and an engine runs in one: "
            "use devices of jax.local_devices()"
        )
    counts = {"heads": model.heads} if model.decoder_decoder or not recurrent(model) else {}
    if recurrent(model):
        counts["mixer_heads"] = model.mixer_heads
    for name, count in counts.items():
        if count % mesh.shape[TENSOR]:
            most = math.gcd(*counts.values())
            fitting = [str(n) for n in range(1, most + 1) if most % n == 0]
            raise ValueError(
                f"mesh.tensor is {mesh.shape[TENSOR]}, which does not divide {name} {count}: use "
                f"a mesh with tensor {' or '.join(fitting)}"
            )


def placed(model: LMConfig, params: PyTree, mesh: Mesh | None) -> PyTree:
    """The parameters, spread over a mesh if there is one.

    Raises:
        ValueError: the mesh does not fit the model; see `check_mesh`.
    """
    if mesh is None:
        return params
    check_mesh(model, mesh)
    return jax.device_put(params, params_on(model, params, mesh))


def params_on(model: LMConfig, params: PyTree, mesh: Mesh) -> PyTree:
    """A sharding for each parameter."""

    def one(path, leaf):
        *parents, name = (key.key for key in path)
        known = HIDDEN if "hidden" in parents else MIXER if parents else ENDS
        names = known.get(name, ())
        shared = "shared_kv" in parents or not recurrent(model)
        if name in ("k", "v") and shared and model.kv_heads % mesh.shape[TENSOR]:
            # A device would get a part of a head.
            names = ("embed", None)
        return _split(leaf.shape, (None,) * (len(leaf.shape) - len(names)) + names, mesh)

    return jax.tree.map_with_path(one, params)


def store_on(model: LMConfig, mesh: Mesh) -> Store:
    """A sharding for each array of a store, whatever the engine's sizes."""

    def one(path, leaf):
        # Keys, values, their scales and the convolutions' inputs have tokens before heads.
        named = getattr(path[-1], "name", "state")
        before = 1 if named in ("state", "memory") else 2
        return _split(leaf.shape, (*(None,) * before, "heads"), mesh)

    shapes = jax.eval_shape(partial(empty_store, model, EngineConfig()))
    return jax.tree.map_with_path(one, shapes)


def _split(shape: tuple[int, ...], names: Names, mesh: Mesh) -> NamedSharding:
    """By logical axes, as far as these divide."""
    physical: list[Any] = list(logical_spec(LogicalAxes(), *names))
    for index, axis in enumerate(physical):
        if axis is not None and shape[index] % mesh.shape[axis]:
            physical[index] = None
    return NamedSharding(mesh, PartitionSpec(*physical))
