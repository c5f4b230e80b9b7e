"""Training steps of the cost rows: one net's loss, gradient and AdamW update, by mode."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from loomax.models.elastic.extract import build, extract
from loomax.models.elastic.supernet import apply_supernet, init_supernet
from loomax.nas.space.arch import Arch
from loomax.nas.space.encode import encode
from loomax.nas.space.space import Space
from loomax.nas.space.supernet import supernet_config
from loomax.nas.train.losses import cross_entropy, label_targets

Step = Callable[..., tuple[Any, jax.Array]]


def make_step(logits_of: Callable[..., jax.Array]) -> tuple[Step, Callable[[Any], Any]]:
    """(step(state, images, labels, *sizes), state of parameters) for a function to logits."""
    optimiser = optax.adamw(1e-3)

    def loss_of(params, images, labels, *sizes):
        logits = logits_of(params, images, *sizes)
        return cross_entropy(logits, label_targets(labels, logits.shape[-1], 0.1)).mean()

    def step(state, images, labels, *sizes):
        params, opt_state = state
        loss, grads = jax.value_and_grad(loss_of)(params, images, labels, *sizes)
        updates, opt_state = optimiser.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    return step, lambda params: (params, optimiser.init(params))


class Supernet:
    """The space's supernet, with a step in any mode, and steps of its networks alone."""

    def __init__(self, space: Space):
        self.space, self.config = space, supernet_config(space)
        self.parameters = init_supernet(self.config, key=jax.random.key(0))

    def step(self, mode: str) -> tuple[Step, Any]:
        """(step, state): one program for all sizes, which are its last argument."""

        def logits(params, images, sizes):
            return apply_supernet(self.config, params, sizes, images, mode)

        step, begin = make_step(logits)
        return step, begin(jax.tree.map(jnp.copy, self.parameters))

    def alone(self, arch: Arch) -> tuple[Step, Any]:
        """(step, state) of the extracted network, without sizes."""
        sizes = encode(self.space, arch)
        network = build(*extract(self.config, self.parameters, sizes))
        graph, params, rest = nnx.split(network, nnx.Param, ...)
        statistics = nnx.to_pure_dict(rest)

        def logits(params, images):
            # Copies: what is captured cannot be written to.
            own = jax.tree.map(jnp.array, statistics)
            return nnx.merge(graph, params, own)(images, train=True)

        step, begin = make_step(logits)
        return step, begin(jax.tree.map(jnp.copy, params))


class Timed:
    """A compiled step with its state: a call runs it once and returns CPU seconds.

    CPU seconds of the process count all threads, and other processes do not change them much.
    """

    def __init__(self, step: Step, state: Any, *arguments: Any):
        start = time.process_time()
        self.compiled = jax.jit(step, donate_argnums=0).lower(state, *arguments).compile()
        self.compile_s = time.process_time() - start
        self.state, self.arguments = state, arguments

    def __call__(self) -> float:
        return self.run(*self.arguments)

    def run(self, *arguments: Any) -> float:
        """One step with these arguments."""
        start = time.process_time()
        self.state, loss = self.compiled(self.state, *arguments)
        jax.block_until_ready((self.state, loss))
        return time.process_time() - start

    @property
    def temp_bytes(self) -> int:
        """Temporary memory of the program."""
        return self.compiled.memory_analysis().temp_size_in_bytes
