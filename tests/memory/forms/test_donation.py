"""What is donated without asking: what the step returns in a new version, and nothing else."""

import jax
import jax.numpy as jnp
import pytest

from loomax.memory.forms.arguments import argument_bytes
from loomax.memory.forms.donation import described, donatable
from loomax.memory.forms.judge import Program
from loomax.runtime.target import parse_target

W, B = jnp.ones((3, 3)), jnp.ones(3)
PARAMS = {"w": W, "b": B}
MOMENTS = (PARAMS, PARAMS, jnp.int32(0))
BATCH = {"x": jnp.ones((4, 3)), "y": jnp.ones((4, 3))}
RATE = jnp.float32(0.1)


def adam(params, state, batch, rate):
    loss = jnp.mean(batch["x"] @ params["w"] + params["b"]) * rate
    return params, state, loss


def ahead(state, batch):
    return {"state": state, "metrics": {"loss": jnp.sum(batch["x"])}}


@pytest.mark.parametrize(
    ("step", "args", "sure", "unsure"),
    [
        (adam, (PARAMS, MOMENTS, BATCH, RATE), (0, 1), ()),
        (ahead, (MOMENTS, BATCH), (0,), ()),
        # A learning rate looks like the loss; donated, it would be gone at the second call.
        (lambda p, rate: (p, rate * 2), (PARAMS, RATE), (0,), ()),
        (lambda p, rates: (p, rates * 2), (PARAMS, B), (0,), (1,)),
        # A prediction looks like its batch.
        (lambda p, x: (p, x @ p["w"]), (PARAMS, BATCH["x"]), (0,), (1,)),
        # One new version, of the one or of the other?
        (lambda p, target: (p, 1.0), (PARAMS, PARAMS), (), (0, 1)),
        (lambda p, target: (target, p), (PARAMS, PARAMS), (0, 1), ()),
        # Within a state that is returned there is no second version of its parts.
        (lambda p, frozen: p, (MOMENTS, PARAMS), (0,), ()),
        # The same shapes in another structure, or the same structure with other types.
        (lambda p, pair: (p, 0), (PARAMS, (B, W)), (0,), ()),
        (lambda p: jax.tree.map(lambda x: x.astype(jnp.bfloat16), p), (PARAMS,), (), ()),
        (lambda p: jax.tree.map(lambda x: x[:1], p), (PARAMS,), (), ()),
        (lambda w: w - 0.1, (W,), (), (0,)),
        (lambda p: jnp.sum(p["w"]), (PARAMS,), (), ()),
    ],
)
def test_new_versions_are_seen_by_structure(step, args, sure, unsure):
    assert donatable(step, args) == (sure, unsure)


def test_a_batch_is_never_donated():
    step = lambda p, batch: (p, jax.tree.map(jnp.sin, batch))  # noqa: E731
    assert donatable(step, (PARAMS, BATCH), batch=(1,)) == ((0,), ())
    assert donatable(lambda p, x: (p, x), (PARAMS, W), batch=(1,)) == ((0,), ())


def test_what_is_donated_can_be_called_again_and_again():
    args = (PARAMS, MOMENTS, BATCH, RATE)
    sure, _ = donatable(adam, args)
    step = jax.jit(adam, donate_argnums=sure)
    params, state = (jax.tree.map(jnp.copy, tree) for tree in args[:2])
    for _ in range(3):
        params, state, _ = step(params, state, BATCH, RATE)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((BATCH, RATE)))


def test_the_caller_is_asked_by_the_numbers_of_arguments():
    assert described((1, 2)).startswith("argument 1, 2 is not donated")


@pytest.mark.parametrize(
    ("run", "wanted"),
    [
        (lambda p, x: x @ p["w"], 9 * 4 + 12 * 4),
        (lambda p, x: (x, p["b"]), 12 * 4 + 3 * 4),
        (jax.jit(lambda p, x: jax.jit(lambda a, b: b)(p["w"], x)), 12 * 4),
        (lambda p, x: x if p["w"].sum is None else 0 * x + 1, 12 * 4),
    ],
)
def test_bytes_of_the_arguments_that_are_used(run, wanted):
    args = (PARAMS, BATCH["x"])
    program, target = Program(run, args), parse_target("cpu")
    assert argument_bytes(program, target) == wanted
    held = jax.jit(run).lower(*args).compile().memory_analysis().argument_size_in_bytes
    assert held == wanted


def test_a_shard_counts_on_its_device():
    target = parse_target("cpu:4")
    where = jax.sharding.NamedSharding(target.mesh, jax.P(target.mesh.axis_names[0]))
    rows = jax.ShapeDtypeStruct((8, 3), jnp.float32, sharding=where)
    parts = dict(target.mesh.shape)[target.mesh.axis_names[0]]
    program = Program(lambda w, x: x @ w, (W, rows))
    assert argument_bytes(program, target) == 9 * 4 + 24 * 4 // parts
