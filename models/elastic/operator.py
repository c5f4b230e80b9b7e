"""One operator at active sizes, in any of the modes.

- masked: at the parameters' sizes, with masks. The reference; costs the largest network.
- elastic_switch: at the first lane that covers the active sizes, with masks inside of it. The
  smallest lane is for exactly its sizes, and has no masks.
- switch: the same by `jax.lax.switch`, whose gradient stores every lane. For comparison.
- static: at exactly the active sizes, which are ints. What is deployed; compiles for each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from loomax.models.elastic.active import fit
from loomax.models.elastic.elastic_switch import elastic_switch
from loomax.models.elastic.leaves import Leaves, cut
from loomax.runtime.config import unknown

MODES = ("masked", "switch", "elastic_switch", "static")
Mode = Literal["masked", "switch", "elastic_switch", "static"]
Flag = bool | Bool[Array, ""]


@dataclass(frozen=True)
class Operator:
    """What an operator computes and owns.

    Args:
        function: (parameters, x, sizes) -> y, where the arrays may be larger than the active
            `sizes`. Inactive channels of x and y are 0.
        leaves: its parameters.
        lanes: rows of sizes (ints) that grow; the last are those of the parameters.
        inputs: field of the sizes that is the width of x.
        outputs: the one that is the width of y, or None if it is fixed.
    """

    function: Callable[[dict, Array, Any], Array]
    leaves: Leaves
    lanes: tuple
    inputs: str = "width"
    outputs: str | None = "width"


def run(
    operator: Operator,
    parameters: dict,
    x: Array,
    sizes: Any,
    mode: Mode,
    active: Flag = True,
    *,
    first: bool = False,
) -> Array:
    """y of an operator, or x where it is not active (its width in and out are equal then).

    Args:
        sizes: active sizes: ints in mode "static", else int32 scalars.
        first: whether x are the images, towards which there is no gradient.

    Raises:
        ValueError: unknown mode.
    """
    if first:
        x = jax.lax.stop_gradient(x)
    if mode == "static":
        if not active:
            return x
        return operator.function(cut(operator.leaves, parameters, sizes), x, sizes)
    if mode == "masked":
        y = operator.function(parameters, x, sizes)
        return y if isinstance(active, bool) else jnp.where(active, y, x)
    if mode not in MODES:
        raise ValueError(unknown("mode", mode, MODES))
    branches = [partial(_at_lane, operator, lane) for lane in operator.lanes]
    if len(branches) > 1:
        branches[0] = partial(_exactly, operator, operator.lanes[0])
    index = lane_index(operator.lanes, sizes)
    if not isinstance(active, bool):
        branches.insert(0, _skip)
        index = jnp.where(active, index + 1, 0)
    if mode == "switch":
        return jax.lax.switch(index, branches, parameters, x, sizes)
    constant = (1,) if first else ()
    return elastic_switch(index, branches, parameters, x, sizes, constant=constant)


def lane_index(lanes: tuple, sizes: Any) -> Array:
    """Number of the first lane that covers the sizes; the last one's if none does.

    The smallest of several lanes covers its own sizes only.
    """
    covers = []
    for number, lane in enumerate(lanes[:-1]):
        pairs = zip(sizes, lane, strict=True)
        covers.append(jnp.array([a == b if number == 0 else a <= b for a, b in pairs]).all())
    return sum((~covered).astype(jnp.int32) for covered in covers) + jnp.int32(0)


def _at_lane(operator: Operator, lane: Any, parameters: dict, x: Array, sizes: Any) -> Array:
    small = x[..., : getattr(lane, operator.inputs)]
    y = operator.function(cut(operator.leaves, parameters, lane), small, sizes)
    if operator.outputs is None:
        return y
    return fit(y, getattr(operator.lanes[-1], operator.outputs))


def _exactly(operator: Operator, lane: Any, parameters: dict, x: Array, sizes: Any) -> Array:
    del sizes  # those of the lane
    return _at_lane(operator, lane, parameters, x, lane)


def _skip(parameters: dict, x: Array, sizes: Any) -> Array:
    return x
