"""The training programs of reinforcement learning in other forms, for `memory.forms` to search."""

from dataclasses import replace

from jax.sharding import Mesh

from loomax.agents.rl.aot import PROGRAMS, abstract_state
from loomax.agents.rl.config import TrainConfig
from loomax.agents.rl.parts import build
from loomax.agents.rl.policy_config import PolicyConfig
from loomax.memory.forms.form import Form
from loomax.memory.forms.judge import Program
from loomax.runtime.config import unknown
from loomax.runtime.mesh import on_mesh


def in_form(config: TrainConfig, form: Form) -> TrainConfig:
    """The configuration with its model in a form.

    Raises:
        ValueError: the policy has no layers to recompute, or the form splits a minibatch, which
            reinforcement learning does by `rl.optimiser.minibatches`.
    """
    if not isinstance(config.policy, PolicyConfig):
        raise ValueError(f"config {config.name!r} has no flow VLA: there is no form to search")
    if form.microbatches != 1 or form.layers == "list":
        raise ValueError(
            f"the form {form} is not for reinforcement learning: remat and contexts vary"
        )
    model = replace(config.policy.model, remat=form.remat)
    rollout = config.rl.rollout
    if form.contexts is not None:
        rollout = replace(rollout, store_context=form.contexts == "kept")
    policy, rl = replace(config.policy, model=model), replace(config.rl, rollout=rollout)
    return replace(config, policy=policy, rl=rl)


def form_of(config: TrainConfig) -> Form:
    """The form that a configuration has as it is."""
    if not isinstance(config.policy, PolicyConfig):
        return Form()
    contexts = "kept" if config.rl.rollout.store_context else "again"
    return Form(config.policy.model.remat, contexts=contexts)


def train_program(
    config: TrainConfig, name: str, form: Form, envs: int | None, mesh: Mesh
) -> Program:
    """A program of `loomax train` with shapes in place of arrays.

    Args:
        name: "sft", "update" or "iteration".
        envs: parallel environments; None: the configuration's.

    Raises:
        ValueError: there is no such program, or the sizes do not fit the mesh.
    """
    if name not in PROGRAMS:
        raise ValueError(unknown("program", name, PROGRAMS))
    config = in_form(config, form)
    if envs is not None:
        rollout = replace(config.rl.rollout, envs=envs)
        config = replace(config, rl=replace(config.rl, rollout=rollout))
    config.validate(mesh.size)
    with on_mesh(mesh):
        parts = build(config, mesh)
        program = PROGRAMS[name](config, parts, abstract_state(parts))
    return Program(program.run, program.args, key=program.key)
