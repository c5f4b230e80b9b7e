"""One step of a supernet, as pure functions: nets in rounds, their gradients added, one update.

A round's nets run side by side on the devices of the `subnet` mesh axis. What the teachers of a
round believe is shared before the next round. Sizes are arguments, so one program serves all nets.

Shape letters: B images, S side, C channels, K classes, R rounds, D devices.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree, UInt8

from loomax.models.elastic.config import SupernetConfig
from loomax.models.elastic.supernet import apply_supernet, init_supernet
from loomax.nas.train.config import SupernetTrainConfig
from loomax.nas.train.lineup import Lineup, Rounds
from loomax.nas.train.losses import cross_entropy, label_targets, net_loss, ramp
from loomax.nas.train.optimiser import learning_rate, make_optimiser
from loomax.runtime.mesh import SUBNET


@struct.dataclass
@no_type_check  # the same fields also hold shapes
class TrainState:
    """All that the next step needs from the device: float32 parameters and Adam's moments."""

    step: Int[Array, ""]
    params: PyTree
    opt_state: PyTree


class Batch(NamedTuple):
    """Images of a step, 0 to 255, at the space's largest side, and their classes.

    Args:
        soft: probabilities of the teacher network; None without.
    """

    images: UInt8[Array, "B S S C"]
    labels: Int[Array, " B"]
    soft: Float[Array, "B K"] | None = None


class Carry(NamedTuple):
    """What goes from round to round: summed gradients; summed beliefs of teachers, their number."""

    grads: PyTree
    beliefs: Float[Array, "B K"]
    taught: Float[Array, ""]


class NetMetrics(NamedTuple):
    """Of each net: its loss, the plain cross-entropy in nats, the share that it got right."""

    loss: Array
    nats: Array
    accuracy: Array


def to_input(images: UInt8[Array, "B S S C"], side: int) -> Float[Array, "B R R C"]:
    """Images as the nets take them: -1 to 1, resized."""
    scaled = images.astype(jnp.float32) / 127.5 - 1
    if images.shape[1] == side:
        return scaled
    return jax.image.resize(scaled, (len(images), side, side, images.shape[-1]), "linear")


@dataclass(frozen=True)
class Learner:
    """The functions of a run.

    Args:
        mesh: with the one axis `subnet`; None for one device.
    """

    config: SupernetTrainConfig
    supernet: SupernetConfig
    mesh: Mesh | None = None

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """AdamW behind unit-wise clipping."""
        return make_optimiser(self.config.optimiser, self.config.steps, self.supernet)

    def draw(self, *, key: Key[Array, ""]) -> TrainState:
        """A fresh state."""
        return self.begin(init_supernet(self.supernet, key=key))

    def begin(self, params: PyTree) -> TrainState:
        """The state before the first step, with these parameters."""
        return TrainState(jnp.zeros((), jnp.int32), params, self.optimiser.init(params))

    # -------------------------------------------------------------------------------- one net

    def loss(
        self, params: PyTree, net: Lineup, batch: Batch, carry: Carry, step: Array, side: int
    ) -> tuple[Array, tuple[NetMetrics, Array]]:
        """Loss of one net on a batch; its metrics and beliefs."""
        config, given = self.config, self.config.distill
        logits = apply_supernet(self.supernet, params, net.sizes, to_input(batch.images, side))
        classes = logits.shape[-1]
        hard = cross_entropy(logits, label_targets(batch.labels, classes, config.smoothing))
        targets = carry.beliefs / jnp.maximum(carry.taught, 1)
        progress = ramp(step, given.warmup, given.ramp)
        loss = net_loss(logits, hard, batch.soft, targets, net.learns, progress, given).mean()
        nats = cross_entropy(logits, label_targets(batch.labels, classes, 0.0)).mean()
        accuracy = (logits.argmax(-1) == batch.labels).mean()
        return loss, (NetMetrics(loss, nats, accuracy), jax.nn.softmax(logits))

    def nats(self, params: PyTree, batch: Batch, sizes: Any, *, side: int) -> Float[Array, ""]:
        """Mean cross-entropy of one net on a batch, as it is in training."""
        logits = apply_supernet(self.supernet, params, sizes, to_input(batch.images, side))
        return cross_entropy(logits, label_targets(batch.labels, logits.shape[-1], 0.0)).mean()

    def round(
        self, side: int, params: PyTree, batch: Batch, step: Array, carry: Carry, net: Lineup
    ) -> tuple[Carry, NetMetrics]:
        """One net of this device, its gradient added; beliefs are shared with all devices."""

        def run() -> tuple[PyTree, NetMetrics, Array]:
            slope = jax.grad(self.loss, has_aux=True)
            grads, (metrics, beliefs) = slope(params, net, batch, carry, step, side)
            return jax.tree.map(jnp.add, carry.grads, grads), metrics, beliefs

        def idle() -> tuple[PyTree, NetMetrics, Array]:
            zero = jnp.zeros(())
            return carry.grads, NetMetrics(zero, zero, zero), jnp.zeros_like(carry.beliefs)

        if self.mesh is None:
            grads, metrics, beliefs = run()
        else:
            grads, metrics, beliefs = jax.lax.cond(net.runs, run, idle)
        shared = (beliefs * net.teaches, net.teaches.astype(jnp.float32))
        if self.mesh is not None:
            shared = jax.lax.psum(shared, SUBNET)
        return Carry(grads, carry.beliefs + shared[0], carry.taught + shared[1]), metrics

    # --------------------------------------------------------------------------------- a step

    def fresh(self, params: PyTree, batch: Batch) -> Carry:
        """Before the first round."""
        grads = jax.tree.map(jnp.zeros_like, params)
        beliefs = jnp.zeros((len(batch.labels), self.supernet.classes))
        return Carry(grads, beliefs, jnp.zeros(()))

    def rounds(
        self, side: int, params: PyTree, batch: Batch, step: Array, carry: Carry, lineup: Lineup
    ) -> tuple[Carry, NetMetrics]:
        """Rounds with images of one side, one after the other. Metrics are [R, D]."""

        def own(params, batch, step, carry, lineup):
            mine = jax.tree.map(lambda leaf: leaf[:, 0], lineup)
            one = partial(self.round, side, params, batch, step)
            start = carry
            if self.mesh is not None:
                start = carry._replace(grads=jax.tree.map(jnp.zeros_like, carry.grads))
            found, metrics = jax.lax.scan(one, start, mine)
            if self.mesh is not None:
                summed = jax.lax.psum(found.grads, SUBNET)
                found = found._replace(grads=jax.tree.map(jnp.add, carry.grads, summed))
            return found, jax.tree.map(lambda leaf: leaf[:, None], metrics)

        if self.mesh is None:
            return own(params, batch, step, carry, lineup)
        whole, spread = PartitionSpec(), PartitionSpec(None, SUBNET)
        return jax.shard_map(
            own,
            mesh=self.mesh,
            in_specs=(whole, whole, whole, whole, spread),
            out_specs=(whole, spread),
            check_vma=False,
        )(params, batch, step, carry, lineup)

    def update(self, state: TrainState, carry: Carry, nets: int) -> tuple[TrainState, dict]:
        """The state after one step on the mean gradient of the nets."""
        grads = jax.tree.map(lambda leaf: leaf / nets, carry.grads)
        updates, opt_state = self.optimiser.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "grad_norm": optax.tree.norm(grads),
            "lr": learning_rate(self.config.optimiser, self.config.steps)(state.step),
        }
        return TrainState(state.step + 1, params, opt_state), metrics

    def step(
        self, state: TrainState, batch: Batch, lineup: Lineup, *, side: int, nets: int
    ) -> tuple[TrainState, NetMetrics, dict]:
        """A whole step where all nets take images of one side."""
        carry = self.fresh(state.params, batch)
        carry, of_nets = self.rounds(side, state.params, batch, state.step, carry, lineup)
        state, metrics = self.update(state, carry, nets)
        return state, of_nets, metrics


class Stepper:
    """(state, batch, rounds) -> (state, metrics of nets [R, D], metrics); the state is donated.

    One program for all nets where the space has one resolution (`whole`). With several there is
    one for each of them (`part`), and one for the update.
    """

    def __init__(self, learner: Learner, resolutions: int):
        self.learner, self.resolutions = learner, resolutions
        self.whole = jax.jit(
            learner.step, static_argnames=("side", "nets"), donate_argnames=("state",)
        )
        self.part = jax.jit(learner.rounds, static_argnums=0, donate_argnames=("carry",))
        self.update = jax.jit(
            learner.update, static_argnames=("nets",), donate_argnames=("state", "carry")
        )
        self.nats = jax.jit(learner.nats, static_argnames=("side",))

    @property
    def compilations(self) -> int:
        """How often a program of nets was compiled."""
        return self.whole._cache_size() + self.part._cache_size()

    def __call__(
        self, state: TrainState, batch: Batch, rounds: Rounds
    ) -> tuple[TrainState, NetMetrics, dict]:
        nets = len(rounds.places)
        if self.resolutions == 1:
            return self.whole(state, batch, rounds.lineup, side=rounds.sides[0], nets=nets)
        carry, found = self.learner.fresh(state.params, batch), []
        for number, side in enumerate(rounds.sides):
            one = jax.tree.map(lambda leaf, at=number: leaf[at : at + 1], rounds.lineup)
            carry, metrics = self.part(side, state.params, batch, state.step, carry, one)
            found.append(metrics)
        state, metrics = self.update(state, carry, nets)
        return state, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *found), metrics
