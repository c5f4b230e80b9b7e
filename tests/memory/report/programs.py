"""What the tests report on."""

import jax
import jax.numpy as jnp

from loomax.memory.lifetimes.trace import Trace
from loomax.memory.lifetimes.xla_program import XlaProgram
from loomax.memory.lifetimes.xla_proto import Origin

DIM, BATCH, LAYERS = 32, 64, 4
NASTY = "</script><script>alert(1)</script><b>&\"'$x$"


def step(weights, x):
    """One step of descent on a chain of layers, which keeps each layer's result."""

    def loss(weights):
        y = x
        for weight in weights:
            y = jnp.tanh(y @ weight)  # the kept line
        return (y**2).sum()

    value, slopes = jax.value_and_grad(loss)(weights)
    return value, [weight - 0.1 * slope for weight, slope in zip(weights, slopes, strict=True)]


def loop(weights, x):
    """The same as a loop over stacked layers."""

    def loss(weights):
        y, _ = jax.lax.scan(lambda y, weight: (jnp.tanh(y @ weight), None), x, weights)
        return (y**2).sum()

    value, slopes = jax.value_and_grad(loss)(weights)
    return value, weights - 0.1 * slopes


def program_of(records, offsets, origins, heap_bytes, residents=()):
    """A program made by hand."""
    known = {each.id: Origin(each.id) for each in (*records, *residents)}
    heap, whole_call = Trace(tuple(records)), Trace(tuple(residents))
    return XlaProgram("jit_step", heap, offsets, heap_bytes, whole_call, {**known, **origins})
