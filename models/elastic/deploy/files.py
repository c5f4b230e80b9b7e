"""A fixed network in one safetensors file: its spec in the header, parameters and statistics."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from loomax.models.elastic.deploy.network import BLOCKS, Network
from loomax.models.elastic.deploy.spec import NetworkSpec
from loomax.models.initialise import CountedDraws

KINDS = {kind.__name__: kind for kind in BLOCKS}


def spec_json(spec: NetworkSpec) -> str:
    """The spec as JSON."""
    blocks = [{"kind": type(block).__name__} | asdict(block) for block in spec.blocks]
    return json.dumps({"resolution": spec.resolution, "blocks": blocks})


def spec_from(text: str) -> NetworkSpec:
    """What `spec_json` wrote.

    Raises:
        ValueError: it is something else.
    """
    try:
        held = json.loads(text)
        blocks = [dict(block) for block in held["blocks"]]
        made = tuple(KINDS[block.pop("kind")](**block) for block in blocks)
        return NetworkSpec(held["resolution"], made)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not the spec of a network ({error}): {text[:80]!r}") from None


def _arrays(network: Network) -> dict[str, jax.Array]:
    """Parameters and statistics by their dotted paths."""
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(network)))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def save_network(path: str | Path, network: Network) -> None:
    """Writes a network; a crash leaves no half of a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    host = {name: np.ascontiguousarray(leaf) for name, leaf in _arrays(network).items()}
    try:
        save_file(host, partial, metadata={"network": spec_json(network.spec)})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_network(path: str | Path) -> Network:
    """Reads what `save_network` wrote.

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            spec = spec_from((file.metadata() or {}).get("network", ""))
            held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as a network: {error}") from None
    network = Network(spec, rngs=CountedDraws())
    wanted = _arrays(network)
    shapes = {name: leaf.shape for name, leaf in held.items()}
    if shapes != {name: leaf.shape for name, leaf in wanted.items()}:
        raise ValueError(f"{path} holds other arrays than its spec says: write it again")
    state = nnx.state(network)
    pure = nnx.to_pure_dict(state)
    paths, tree = jax.tree_util.tree_flatten_with_path(pure)
    names = [jax.tree_util.keystr(place, simple=True, separator=".") for place, _ in paths]
    filled = jax.tree.unflatten(tree, [jax.numpy.asarray(held[name]) for name in names])
    nnx.replace_by_pure_dict(state, filled)
    nnx.update(network, state)
    return network
