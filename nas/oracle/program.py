"""A chain of blocks as a program: the deployed network's own layers, never the supernet's.

No layer is in a loop, so compilers that count a loop's body once see every layer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from loomax.models.elastic.deploy.network import Network
from loomax.models.elastic.deploy.spec import (
    AttentionSpec,
    BlockSpec,
    ConvSpec,
    FeedForwardSpec,
    HeadSpec,
    MBConvSpec,
    NetworkSpec,
)
from loomax.models.initialise import CountedDraws
from loomax.nas.oracle.reading import Chain, chain_of
from loomax.nas.space.arch import Arch
from loomax.nas.space.blocks import Block, Classifier, Conv, MBConv, Transformer
from loomax.nas.space.space import Space


class Program(NamedTuple):
    """A function and the shapes that it is compiled for.

    Args:
        forward: (state, images) -> output.
        state: pytree of jax.ShapeDtypeStruct: parameters and statistics.
        images: [batch, side, side, channels].
    """

    forward: Callable[[Any, Any], Any]
    state: Any
    images: jax.ShapeDtypeStruct


def specs_of(block: Block) -> tuple[BlockSpec, ...]:
    """The layers that a block is deployed as.

    Raises:
        ValueError: there are none: biases of queries, class tokens, absolute positions and
            patches are counted, not built.
    """
    if isinstance(block, Conv) and block.norm:
        return (ConvSpec(block.width_in, block.width, block.kernel, block.stride),)
    if isinstance(block, MBConv):
        sizes = (block.width_in, block.width, block.hidden, block.kernel, block.stride)
        return (MBConvSpec(*sizes, block.squeeze, block.hidden != block.width_in),)
    if isinstance(block, Transformer) and not (block.qkv_bias or block.class_token):
        attention = AttentionSpec(
            block.width,
            block.heads,
            block.head_dim,
            block.head_dim * block.v_scale,
            block.value_kernel,
            block.side * block.bias_table,
        )
        return attention, FeedForwardSpec(block.width, block.hidden)
    if isinstance(block, Classifier) and not (block.norm or block.class_token):
        return (HeadSpec(block.width, block.hidden, block.features, block.classes),)
    raise ValueError(f"no program for {block}: take a roofline-... device, which only counts")


def network_spec(space: Space, arch: Arch) -> NetworkSpec:
    """The whole network, as `loomax.models.elastic.extract.extract` describes it.

    Raises:
        ValueError: a block has no program.
    """
    specs = (spec for block in chain_of(space, arch) for spec in specs_of(block))
    return NetworkSpec(arch.resolution, tuple(specs))


def input_shape(block: Block, batch: int) -> tuple[int, int, int, int]:
    """[batch, side, side, channels] of what a block reads."""
    channels = block.width_in if isinstance(block, Conv | MBConv) else block.width
    return (batch, block.side, block.side, channels)


def program_of(chain: Chain, batch: int, dtype: str) -> Program:
    """The program of one forward pass.

    Raises:
        ValueError: a block has no program.
    """
    specs = tuple(spec for block in chain for spec in specs_of(block))
    spec = NetworkSpec(chain[0].side, specs)
    graph, state = nnx.split(nnx.eval_shape(lambda: Network(spec, rngs=CountedDraws())))

    kind = jnp.dtype(dtype)

    def forward(state, images):
        x = images
        for layer in nnx.merge(graph, state).blocks:
            # Average pooling widens to float32.
            x = layer(x, False).astype(kind)
        return x

    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, kind), state)
    return Program(forward, state, jax.ShapeDtypeStruct(input_shape(chain[0], batch), kind))
