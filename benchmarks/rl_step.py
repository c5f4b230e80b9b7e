"""How long does one iteration of reinforcement learning take?  loomax bench rl-step

Ours is one program: rollout, returns, and all epochs of minibatch updates on stored contexts. The
configuration is `quickstart`'s.

    separate-jits  the same work as compiled pieces called from Python: a policy call, then one
                   call per chunk of actions, observations on the host; returns; and in every
                   epoch the prefix of every observation is encoded again by a compiled call
                   before each minibatch is updated by one

Both start from the same state and make the same number of optimiser steps.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks._loops import Pieces, PythonLoop
from benchmarks._rows import Program, Row, compare, finish, seconds, take_turns, tree_bytes
from benchmarks.rollout import Case, sized
from loomax.agents.rl.config import TrainConfig
from loomax.agents.rl.estimates import estimate
from loomax.agents.rl.iteration import TrainState
from loomax.agents.rl.parts import Parts, build
from loomax.agents.rl.update import shuffled_calls
from loomax.runtime.compile import physics_options
from loomax.runtime.mesh import FSDP, REPLICA, replicated

BENCH = "rl-step"


def start(parts: Parts) -> TrainState:
    """A train state with fresh parameters."""
    params = parts.init_params(key=jax.random.key(1))
    init = jax.jit(parts.learner.init, compiler_options=physics_options())
    state = init(*params, key=jax.random.key(2))
    return jax.device_put(state, parts.state_shardings(state))


def fused_case(config: TrainConfig) -> Case:
    """One program, donated; `run` returns seconds."""
    parts = build(config)
    state = start(parts)
    where = jax.tree.map(lambda x: x.sharding, state)
    program = Program(
        parts.learner,
        donate_argnames=("state",),
        out_shardings=(where, replicated(parts.mesh)),
        compiler_options=physics_options(),
    )
    held = [state]

    def run() -> float:
        spent, (state, _) = seconds(lambda: program(held[0], key=jax.random.key(3)))
        held[:] = [state]
        return spent

    return Case(run, lambda: program.bytes)


class SeparateJits:
    """An iteration as a Python loop over compiled pieces."""

    def __init__(self, config: TrainConfig):
        self.config, self.parts = config, build(config)
        self.state = start(self.parts)
        self.loop = PythonLoop(self.parts, Pieces(self.parts), whole_chunks=True)
        self.encode = Program(self.parts.policy.encode)
        self.returns = Program(lambda steps: estimate(config.rl, steps))
        self.update = Program(
            self.parts.learner.minibatch,
            donate_argnums=(0,),
            out_shardings=replicated(self.parts.mesh),
        )
        self.by_env = NamedSharding(self.parts.mesh, P(None, (REPLICA, FSDP)))
        self.stored = 0

    @property
    def bytes(self) -> int:
        """The largest piece's and the stored trajectory's."""
        pieces = (self.loop.pieces, self.encode, self.returns, self.update)
        return max(piece.bytes for piece in pieces) + self.stored

    def iterate(self) -> TrainState:
        """Rollout, returns and epochs of updates."""
        state, rollout = self.state, self.config.rl.rollout
        key = jax.random.fold_in(jax.random.key(3), state.step)
        rollout_key, update_key = jax.random.split(key)
        params = (state.trained, state.frozen)
        env_state, obs, calls, _ = self.loop.rollout(
            params, state.env_state, state.obs, rollout.calls, rollout_key
        )
        steps = self.loop.finish(params, obs, calls)
        self.stored = tree_bytes(steps)
        estimates = self.returns(jax.device_put(replace(steps, source=None), self.by_env))
        data = (steps, jax.device_get(estimates))
        carry = (state.trained, state.opt_state)
        for epoch in range(self.config.rl.optimiser.epochs):
            carry = self.epoch(carry, data, jax.random.fold_in(update_key, epoch))
        trained, opt_state = carry
        return replace(
            state,
            step=state.step + 1,
            trained=trained,
            opt_state=opt_state,
            env_state=env_state,
            obs=obs,
        )

    def epoch(self, carry: Any, data: Any, key: jax.Array) -> Any:
        """One pass over the rollout, in minibatches like those of the one program."""
        calls, envs = data[0].index.shape
        minibatches = self.config.rl.optimiser.minibatches
        orders = np.asarray(shuffled_calls(calls, envs, minibatches, key=key))
        columns = np.arange(envs)[None]
        # The rows of a minibatch are picked on the host already.
        picked = jnp.broadcast_to(jnp.arange(orders.shape[1])[:, None], orders.shape[1:])
        # Only what an update reads: the rest of the state's buffers may be donated.
        rest = replace(
            self.state, trained=None, opt_state=None, average=None, env_state=None, obs=None
        )
        for order in orders:
            steps, targets = jax.tree.map(lambda x, at=order: x[at, columns], data)
            params = (carry[0], self.state.frozen)
            contexts = [
                self.encode(params, self.loop.put(jax.tree.map(lambda x, i=i: x[i], steps.source)))
                for i in range(len(order))
            ]
            source = jax.tree.map(lambda *x: jnp.stack(x), *contexts)
            steps, targets = jax.device_put((replace(steps, source=None), targets), self.by_env)
            batch = (replace(steps, source=source), targets)
            carry, _ = self.update(carry, batch, picked, rest, jnp.ones(()))
        return carry

    def run(self) -> float:
        """Seconds of an iteration."""
        spent, self.state = seconds(self.iterate)
        return spent


def rows(config: TrainConfig, n: int) -> list[Row]:
    """Measures both in turns."""
    ours, separate = fused_case(config), SeparateJits(config)
    spent = take_turns({"one-program": ours.run, "separate-jits": separate.run}, n)
    memory = {"one-program": [float(ours.bytes())], "separate-jits": [float(separate.bytes)]}
    against, unit = ["separate-jits"], "s"
    found = compare(BENCH, "iteration_s", unit, spent, "one-program", against, better="lower")
    return found + compare(
        BENCH, "peak_bytes", "bytes", memory, "one-program", against, better="lower"
    )


def main(quick: bool, json_path: Path | None) -> None:
    """Prints and writes the rows."""
    config = sized(quick)
    rollout = config.rl.rollout
    print(f"{rollout.envs} environments, {rollout.calls} calls of {rollout.chunk} steps")
    finish(rows(config, n=3 if quick else 7), json_path)
