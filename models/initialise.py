"""Drawing initial parameters without compiling a random number generator for each of them."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

# Above this many numbers each parameter is drawn by itself, so that it can be drawn sharded.
FLAT_LIMIT = 1 << 24

# The types of nnx.split mention typing.Hashable, about which runtime type checkers complain.
GraphDef = Any
Parameters = Any


class FlatDraws:
    """Hands out slices of one vector of standard normal numbers.

    Stands in for `nnx.Rngs` where parameters are drawn by `normal`. A model of fifty parameters
    then compiles in a second on a CPU instead of ten.
    """

    def __init__(self, numbers: Float[Array, " N"], key: Key[Array, ""]):
        self.numbers = numbers
        self.used = 0
        self._key = key

    def take(self, shape: tuple[int, ...]) -> Array:
        start, self.used = self.used, self.used + math.prod(shape)
        return self.numbers[start : self.used].reshape(shape)

    def params(self) -> Key[Array, ""]:
        """A key of its own, for whatever is not drawn by `normal`."""
        self._key, key = jax.random.split(self._key)
        return key


class CountedDraws(FlatDraws):
    """Gives zeros and counts how many numbers are wanted."""

    def __init__(self):
        super().__init__(jnp.zeros((0,)), jax.random.key(0))

    def take(self, shape: tuple[int, ...]) -> Array:
        self.used += math.prod(shape)
        return jnp.zeros(shape)


Rngs = nnx.Rngs | FlatDraws


def normal(rngs: Rngs, shape: tuple[int, ...], std: float, dtype: DTypeLike = jnp.float32) -> Array:
    """N(0, std^2) of a shape."""
    if isinstance(rngs, FlatDraws):
        return (rngs.take(shape) * std).astype(dtype)
    return jax.random.normal(rngs.params(), shape, dtype) * std


def initialise(
    build: Callable[[Any], nnx.Module], *, key: Key[Array, ""]
) -> tuple[GraphDef, Parameters]:
    """A module's graph definition and freshly drawn parameters, in one compiled program.

    The numbers depend on the key and on the module's parameters in their order of creation.
    """
    counted = CountedDraws()
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: build(counted)))

    def draw(key):
        if counted.used > FLAT_LIMIT:
            rngs = nnx.Rngs(key)
        else:
            flat_key, other = jax.random.split(key)
            rngs = FlatDraws(jax.random.normal(flat_key, (counted.used,)), other)
        return nnx.state(build(rngs), nnx.Param)

    return graphdef, jax.jit(draw)(key)
