"""The form of a training step: what it recomputes, how its layers run, in how many parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from loomax.memory.schedule.policy import check_policy, remat_as

LAYERS = ("list", "scan")
CONTEXTS = ("kept", "again")


@dataclass(frozen=True)
class Form:
    """A step that takes `form` and asks it for its parts can be compiled in any form.

        def step(params, batch, *, form=Form()):
            block = form.block(layer)
            loss = lambda params, batch: mean_loss(form.run_layers(block, params, batch))
            loss, grads = form.value_and_grad(loss)(params, batch)

    The results are the same but for rounding.

    Args:
        remat: policy of each block (`memory.schedule.policy`).
        layers: "list" runs layers one after another, "scan" in a loop over stacked parameters;
            None as they are given.
        microbatches: parts of a batch that are computed one after another.
        contexts: of reinforcement learning: "kept" from the rollout for the update, or encoded
            "again"; None as they are given.
    """

    remat: str = "none"
    layers: str | None = None
    microbatches: int = 1
    contexts: str | None = None

    def __post_init__(self):
        check_policy(self.remat)
        if self.layers is not None and self.layers not in LAYERS:
            raise ValueError(f"layers is {self.layers!r}: choose from list, scan, or None")
        if self.contexts not in (None, *CONTEXTS):
            raise ValueError(f"contexts is {self.contexts!r}: choose from kept, again, or None")
        if self.microbatches < 1:
            raise ValueError(f"microbatches is {self.microbatches}: give at least 1")

    def __str__(self) -> str:
        parts = [f"remat {self.remat}", self.layers or ""]
        parts += [f"{self.microbatches} microbatches"] if self.microbatches > 1 else []
        parts += [f"contexts {self.contexts}"] if self.contexts else []
        return ", ".join(part for part in parts if part)

    def block(self, block: Callable[..., Any]) -> Callable[..., Any]:
        """`block` under the policy."""
        return remat_as(self.remat, block)

    def run_layers(
        self, block: Callable[[PyTree, Any], Any], params: Sequence[PyTree] | PyTree, x: Any
    ) -> Any:
        """`x = block(p, x)` for the parameters p of every layer.

        Args:
            params: a list of one pytree a layer, or a pytree whose leaves have the layers first.
        """
        given = "list" if isinstance(params, (list, tuple)) else "scan"
        if (self.layers or given) == "scan":
            stacked = _stacked(params) if given == "list" else params
            return jax.lax.scan(lambda x, p: (block(p, x), None), x, stacked)[0]
        layers = params if given == "list" else _listed(params)
        for p in layers:
            x = block(p, x)
        return x

    def value_and_grad(self, loss: Callable[..., Any]) -> Callable[..., tuple[Any, PyTree]]:
        """As `jax.value_and_grad(loss)` of `loss(params, batch)`, a mean over the batch.

        The mean is taken over microbatches; every leaf of `batch` has the batch first.

        Raises (when called):
            ValueError: the microbatches do not divide the batch.
        """
        one = jax.value_and_grad(loss)
        if self.microbatches == 1:
            return one

        def mean(params: PyTree, batch: PyTree) -> tuple[Any, PyTree]:
            parts = jax.tree.map(self._split, batch)
            first = jax.tree.map(lambda x: x[0], parts)
            zeros = jax.tree.map(
                lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(one, params, first)
            )

            def add(total, part):
                return jax.tree.map(jnp.add, total, one(params, part)), None

            total, _ = jax.lax.scan(add, zeros, parts)
            return jax.tree.map(lambda x: x / self.microbatches, total)

        return mean

    def _split(self, x: Any) -> Any:
        # Interleaved, so that a batch that is spread over devices is spread in every part.
        if x.shape[0] % self.microbatches:
            raise ValueError(
                f"{self.microbatches} microbatches do not divide a batch of {x.shape[0]}: "
                "give a divisor"
            )
        return x.reshape(-1, self.microbatches, *x.shape[1:]).swapaxes(0, 1)


def _stacked(params: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)


def _listed(params: PyTree) -> list[PyTree]:
    count = jax.tree.leaves(params)[0].shape[0]
    return [jax.tree.map(lambda x, i=i: x[i], params) for i in range(count)]
