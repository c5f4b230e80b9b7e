"""How fast does a policy gather experience?  loomax bench rollout

Ours is one program: policy, denoising, physics, resets and rendering, with the trajectory on the
device. The model, the environment and the batch are those of `quickstart`, the parameters fresh.

    python-loop         the same policy and simulator as compiled pieces called from Python: a
                        policy call, then one batched environment step (with auto-reset and images)
                        per action, observations copied to the host in between
    python-loop-chunks  the same, but a whole chunk of actions is one call and only its end is
                        rendered: the least that a loop over compiled pieces can do
    brax-acting         brax's PPO acting loop (generate_unroll) on the same physics. Its policy is
                        a small MLP on the true state, so it neither renders nor denoises nor
                        encodes: a bound from below on the cost of acting. `fused-mlp` is ours with
                        a small MLP flow policy on proprioception, which is the like for like.

Environment steps are those of live episodes. Memory: largest program on one device, arguments
included, and for the loops what they keep on the host.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from benchmarks._loops import Pieces, PythonLoop
from benchmarks._rows import Program, Row, compare, finish, seconds, take_turns, tree_bytes
from loomax.agents.rl.config import TrainConfig
from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.agents.rl.parts import Parts, build
from loomax.agents.rl.presets import quickstart
from loomax.runtime.compile import physics_options
from loomax.runtime.mesh import batch_sharding

BENCH = "rollout"
# Package -> the extra of loomax that has it.
NEEDS = {"brax": "bench"}
LOOPS = {"python-loop": False, "python-loop-chunks": True}


@dataclass
class Case:
    """Something that steps environments; `run` returns steps per second."""

    run: Callable[[], float]
    bytes: Callable[[], int]


def sized(quick: bool) -> TrainConfig:
    """`quickstart`, or a small part of it."""
    config = quickstart()
    if not quick:
        return config
    rollout = replace(config.rl.rollout, envs=32, calls=4)
    return replace(config, rl=replace(config.rl, rollout=rollout))


def start(parts: Parts, config: TrainConfig) -> tuple[Any, Any, Any]:
    """Parameters, environments and observations."""
    params = parts.init_params(key=jax.random.key(1))
    keys = jax.random.split(jax.random.key(2), config.rl.rollout.envs)
    keys = jax.device_put(keys, batch_sharding(parts.mesh))
    reset = jax.jit(parts.venv.reset, compiler_options=physics_options())
    return params, *reset(keys)


def fused_case(config: TrainConfig) -> Case:
    """One program."""
    parts = build(config)
    params, state, obs = start(parts, config)
    rollout = config.rl.rollout

    def act(params, state, obs, key):
        state, obs, steps = parts.actor.rollout(
            params, state, obs, calls=rollout.calls, auto_reset=rollout.auto_reset, key=key
        )
        return state, obs, steps, steps.valid.sum()

    program = Program(act, compiler_options=physics_options(), donate_argnums=(1,))
    held = [state, obs, 0]

    def run() -> float:
        state, obs, turn = held
        key = jax.random.fold_in(jax.random.key(3), turn)
        spent, (state, obs, _, count) = seconds(lambda: program(params, state, obs, key))
        held[:] = [state, obs, turn + 1]
        return int(count) / spent

    return Case(run, lambda: program.bytes)


def loop_case(config: TrainConfig, whole_chunks: bool) -> Case:
    """Compiled pieces and a Python loop."""
    parts = build(config)
    params, state, obs = start(parts, config)
    loop = PythonLoop(parts, Pieces(parts), whole_chunks)
    held = [state, obs, 0, 0]

    def run() -> float:
        state, obs, turn, _ = held
        key = jax.random.fold_in(jax.random.key(3), turn)
        spent, (state, obs, steps, count) = seconds(
            lambda: loop.rollout(params, state, obs, config.rl.rollout.calls, key)
        )
        held[:] = [state, obs, turn + 1, loop.pieces.bytes + tree_bytes(steps)]
        return count / spent

    return Case(run, lambda: held[3])


def brax_case(config: TrainConfig) -> Case:
    """brax's acting loop."""
    from benchmarks._brax_env import brax_acting

    parts, rollout = build(config), config.rl.rollout
    steps = rollout.calls * rollout.chunk
    reset, act, params = brax_acting(parts.env, parts.mesh, steps)
    spread, options = batch_sharding(parts.mesh), physics_options()
    keys = jax.device_put(jax.random.split(jax.random.key(2), rollout.envs), spread)
    state = jax.jit(reset, compiler_options=options)(keys)
    key = jax.device_put(jax.random.split(jax.random.key(3), parts.mesh.size), spread)
    program = Program(act, compiler_options=options, donate_argnums=(1,))
    held = [state]

    def run() -> float:
        spent, (state, _) = seconds(lambda: program(params, held[0], key))
        held[:] = [state]
        return steps * rollout.envs / spent

    return Case(run, lambda: program.bytes)


def without_eyes(config: TrainConfig) -> TrainConfig:
    """The same world under a small MLP flow policy, which needs no images."""
    policy = MLPPolicyConfig(horizon=config.rl.rollout.chunk, action_dim=7, width=64)
    sampler = replace(config.rl.sampler, steps=1)
    rl, ground = replace(config.rl, sampler=sampler), replace(config.ground, steps=0)
    return replace(config, policy=policy, rl=rl, ground=ground)


def rows(config: TrainConfig, n: int) -> list[Row]:
    """Measures all cases in turns."""
    cases = {"fused": fused_case(config)}
    cases |= {name: loop_case(config, whole) for name, whole in LOOPS.items()}
    cases |= {"fused-mlp": fused_case(without_eyes(config)), "brax-acting": brax_case(config)}
    speed = take_turns({name: case.run for name, case in cases.items()}, n)
    memory = {name: [float(case.bytes())] for name, case in cases.items()}
    against = [*LOOPS, "brax-acting"]
    metric, unit = "env_steps_per_s", "env-steps/s"
    found = compare(BENCH, metric, unit, speed, "fused", against)
    found += compare(BENCH, metric, unit, speed, "fused-mlp", ["brax-acting"])[:1]
    return found + compare(BENCH, "peak_bytes", "bytes", memory, "fused", against, better="lower")


def main(quick: bool, json_path: Path | None) -> None:
    """Prints and writes the rows."""
    config = sized(quick)
    rollout = config.rl.rollout
    print(f"{rollout.envs} environments, {rollout.calls} calls of {rollout.chunk} steps a turn")
    finish(rows(config, n=3 if quick else 7), json_path)
