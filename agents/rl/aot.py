"""What the TPU compiler says of a configuration's training programs, without a TPU.

Three programs are compiled at full size, with shapes in place of arrays: a step of supervised
fine-tuning, the update on one minibatch, and a whole iteration with its physics and rendering.
They are the functions that `train` runs, with the shardings that it gives them.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from loomax.agents.rl.aot_report import print_parameters, print_verdict
from loomax.agents.rl.config import TrainConfig
from loomax.agents.rl.estimates import estimate
from loomax.agents.rl.fit import Fitter
from loomax.agents.rl.iteration import TrainState
from loomax.agents.rl.parts import Parts, build
from loomax.agents.rl.sft import pad_actions
from loomax.agents.rl.stages import tuning_loss
from loomax.runtime.aot import OUT_OF_MEMORY, CompileReport, hbm_per_device, report, topology_mesh
from loomax.runtime.config import unknown
from loomax.runtime.flops import matmul_flops
from loomax.runtime.mesh import FSDP, REPLICA, on_mesh, replicated


@dataclass(frozen=True)
class Program:
    """A jitted function and the abstract arguments to compile it for."""

    note: str
    run: Callable[..., Any]
    args: tuple
    key: bool = True


def shaped(tree: PyTree, where: Any) -> PyTree:
    """Abstract arrays that know where they will lie; one sharding, or one per leaf."""
    if isinstance(where, NamedSharding):
        where = jax.tree.map(lambda _: where, tree)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, where
    )


def abstract_state(parts: Parts) -> TrainState:
    """The train state of a run as shapes with shardings."""
    key = jax.random.key(0)
    params = jax.eval_shape(lambda: parts.init_params(key=key))
    state = jax.eval_shape(lambda: parts.learner.init(*params, key=key))
    return shaped(state, parts.state_shardings(state))


def tuning_program(config: TrainConfig, parts: Parts, state: TrainState) -> Program:
    """The supervised step that fits the action expert to demonstrations."""
    policy, mesh = parts.policy, parts.mesh
    calls = -(-parts.env.horizon // parts.actor.chunk)
    samples, chunk = config.sft.episodes * calls, parts.actor.chunk

    def sample(obs):
        shown = jax.tree.map(lambda x: jnp.zeros((samples, *x.shape[1:]), x.dtype), obs)
        actions = jnp.zeros((samples, chunk, parts.env.action_size))
        valid = jnp.ones((samples, chunk), bool)
        return shown, *pad_actions(actions, valid, policy.horizon, policy.action_dim)

    obs, actions, mask = jax.eval_shape(sample, state.obs)
    if parts.actor.store_context:
        obs = jax.eval_shape(policy.encode, (state.trained, state.frozen), obs)
    fitter = Fitter(config.sft, tuning_loss(parts), mesh)
    carry = jax.eval_shape(fitter.init, state.trained)
    args = (
        shaped(carry, parts.param_shardings(carry)),
        state.frozen,
        shaped((obs, actions, mask), replicated(mesh)),
    )
    note = f"a step of flow matching on {config.sft.batch} of {samples} samples"
    return Program(note, fitter.program(carry), args)


def update_program(config: TrainConfig, parts: Parts, state: TrainState) -> Program:
    """The update of actor and critic on one minibatch of a stored rollout."""
    learner, rollout, mesh = parts.learner, config.rl.rollout, parts.mesh
    minibatches = config.rl.optimiser.minibatches

    def experience(state):
        _, _, steps = parts.actor.rollout(
            (state.trained, state.frozen),
            state.env_state,
            state.obs,
            calls=rollout.calls,
            auto_reset=rollout.auto_reset,
            key=jax.random.key(0),
        )
        return steps, estimate(config.rl, steps)

    def update(state, data, order):
        carry = (state.trained, state.opt_state)
        (trained, opt_state), metrics = learner.minibatch(carry, data, order, state, jnp.ones(()))
        return state.replace(trained=trained, opt_state=opt_state), metrics

    by_env = NamedSharding(mesh, PartitionSpec(None, (REPLICA, FSDP)))
    data = shaped(jax.eval_shape(experience, state), by_env)
    each = rollout.calls // minibatches
    order = jax.ShapeDtypeStruct((each, rollout.envs), jnp.int32, sharding=by_env)
    # The environments rest meanwhile; their memory is counted with the whole iteration.
    state = state.replace(env_state=None, obs=None)
    out = (jax.tree.map(lambda x: x.sharding, state), replicated(mesh))
    run = jax.jit(update, donate_argnames=("state",), out_shardings=out)
    prefix = "read from the rollout" if rollout.store_context else "encoded again"
    note = f"a minibatch of {each * rollout.envs} policy calls, prefix {prefix}"
    return Program(note, run, (state, data, order), key=False)


def iteration_program(config: TrainConfig, parts: Parts, state: TrainState) -> Program:
    """Rollout with physics and rendering, returns, and all updates."""
    rollout, optimiser = config.rl.rollout, config.rl.optimiser
    out = (jax.tree.map(lambda x: x.sharding, state), replicated(parts.mesh))
    run = jax.jit(parts.learner, donate_argnames=("state",), out_shardings=out)
    note = (
        f"{rollout.calls} x {rollout.chunk} steps of {rollout.envs} environments and "
        f"{optimiser.epochs * optimiser.minibatches} updates"
    )
    return Program(note, run, (state,))


def compile_program(program: Program, mesh: Mesh) -> tuple[CompileReport | str, float]:
    """The compiler's report, or its words if memory does not suffice; and the true FLOPs a chip."""
    key = shaped(jax.eval_shape(lambda: jax.random.key(0)), replicated(mesh))
    traced = program.run.trace(*program.args, **({"key": key} if program.key else {}))
    flops = matmul_flops(traced.jaxpr) / mesh.size
    try:
        return report(traced.lower().compile()), flops
    except jax.errors.JaxRuntimeError as error:
        if OUT_OF_MEMORY not in str(error):
            raise
        return str(error).partition("\n")[0], flops


# Cheapest to compile first.
PROGRAMS = {"sft": tuning_program, "update": update_program, "iteration": iteration_program}


def compile_train(
    config: TrainConfig, topology: str, only: Collection[str] = tuple(PROGRAMS)
) -> dict[str, CompileReport | str]:
    """Compiles the training programs of a configuration for a TPU slice and prints the verdicts.

    Returns each program's report, or the compiler's message where it runs out of memory.

    Raises:
        ValueError: for an unknown program, a topology that does not exist, a configuration that
            does not fit its number of devices, or without libtpu.
    """
    for name in only:
        if name not in PROGRAMS:
            raise ValueError(unknown("program", name, PROGRAMS))
    mesh = topology_mesh(topology, config.mesh)
    config.validate(mesh.size)
    hbm, found = hbm_per_device(topology, mesh), {}
    with on_mesh(mesh):
        parts = build(config, mesh)
        state = abstract_state(parts)
        print_parameters(config.name, topology, mesh, state)
        for name, make in PROGRAMS.items():
            if name not in only or (name == "sft" and not config.sft.steps):
                continue
            start, program = time.monotonic(), make(config, parts, state)
            found[name], flops = compile_program(program, mesh)
            spent = time.monotonic() - start
            print(f"{name}: {program.note} (compiled in {spent:.0f} s)")
            print_verdict(found[name], flops, topology, hbm)
    return found
