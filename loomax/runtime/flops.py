"""Counting the arithmetic of a traced program, loops multiplied out.

XLA's cost analysis counts the body of a loop once. A jaxpr knows how often a scan runs.
"""

import math
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr

# Dense peak of one chip in bfloat16, FLOP/s (the makers' figures).
PEAK_FLOPS = {"v4": 275e12, "v5e": 197e12, "v5p": 459e12, "v6e": 918e12}


def matmul_flops(program: Jaxpr | ClosedJaxpr) -> float:
    """Floating-point operations of all products and convolutions, over all devices.

    A scan counts its length, a branch its larger side, a `shard_map` its devices, and a while loop,
    whose trip count nobody knows, one pass. Products that the compiler drops are counted.
    """
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    return sum(_equation(equation) for equation in jaxpr.eqns)


def equation_flops(equation: Any) -> float:
    """Operations of one equation of a jaxpr: its products, or one for each element that it gives.

    A name, which computes nothing, costs nothing.
    """
    if equation.primitive.name == "name":
        return 0.0
    return _equation(equation) or float(
        sum(math.prod(getattr(result.aval, "shape", ())) for result in equation.outvars)
    )


def _equation(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        inner = math.prod(left[axis] for axis in contracted)
        return 2.0 * inner * math.prod(equation.outvars[0].aval.shape)
    if name == "conv_general_dilated":
        # A kernel element meets each output once: [out, in / groups, *window] in its own layout.
        kernel = equation.invars[1].aval.shape
        features = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / features
    if name == "cond":
        return max(matmul_flops(branch) for branch in params["branches"])
    times = {"scan": lambda: params["length"], "shard_map": lambda: params["mesh"].size}
    inside = [value for value in params.values() if isinstance(value, (Jaxpr, ClosedJaxpr))]
    return times.get(name, lambda: 1)() * sum(matmul_flops(part) for part in inside)
