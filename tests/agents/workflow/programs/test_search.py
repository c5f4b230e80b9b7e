"""GRPO of a tiny search agent: the same by plan and by call, and it learns to search."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.plan.tree import Chunks, Run, Space
from loomax.agents.workflow.programs.rows import append, begin, last
from loomax.agents.workflow.programs.search import make_iteration
from loomax.agents.workflow.trace import trace
from loomax.models.lm import create
from loomax.models.lm.presets import yoco_small

CALL, ANSWER = 2, 3
MODEL = replace(
    yoco_small("sliding_window"),
    vocab=8, width=16, mlp=16, heads=2, kv_heads=1, head_dim=8,
    self_layers=1, cross_layers=1, mixer_heads=2, mixer_head_dim=8, window=8,
)  # fmt: skip
ROWS, NEW, DOCUMENT, TURNS, GROUP = 32, 2, 2, 2, 4
ROOM = TURNS * (NEW + DOCUMENT) + NEW


def documents(tokens, length):
    """Two words that follow from the one before the call."""
    assert isinstance(np.asarray(tokens), np.ndarray)
    word = np.take_along_axis(np.asarray(tokens), np.asarray(length)[:, None] - 2, axis=1)
    return (6 + np.concatenate([word, word + 1], axis=1) % 2).astype(np.int32)


def searched_and_answered(rows):
    searched = ((rows.tokens == CALL) & rows.written).any(1)
    return 0.5 * searched + 0.5 * (last(rows) == ANSWER)


def rows_by_hand():
    return begin(jnp.array([[4, 5], [4, 1]], jnp.int32), 3)


def test_rows_grow_where_they_go_on():
    rows = append(rows_by_hand(), jnp.array([[7, 6], [7, 6]]), jnp.array([True, False]), True)
    rows = append(rows, jnp.array([[1], [3]]), jnp.array([True, True]), False)
    np.testing.assert_array_equal(rows.tokens, [[4, 5, 7, 6, 1], [4, 1, 3, 0, 0]])
    np.testing.assert_array_equal(rows.written, [[0, 0, 1, 1, 0], [0] * 5])
    np.testing.assert_array_equal(rows.length, [5, 3])
    np.testing.assert_array_equal(last(rows), [1, 3])


@pytest.fixture(scope="module")
def inputs():
    params = create(MODEL, key=jax.random.key(0))
    prompts = jnp.repeat(4 + jnp.arange(ROWS // GROUP)[:, None] % 2, GROUP, 0)
    prompts = prompts + jnp.zeros((1, 2), int)
    return params, optax.adam(1e-3).init(params), begin(prompts.astype(jnp.int32), ROOM)


def test_a_pipeline_learns_to_search(inputs):
    iteration = make_iteration(
        MODEL, documents, searched_and_answered, turns=TURNS, new=NEW, document=DOCUMENT,
        call=CALL, answer=ANSWER, group=GROUP, lr=0.03,
    )  # fmt: skip
    params, moments, rows = inputs

    def keys(index):
        return jax.random.split(jax.random.key(index), ROWS)

    workflow = trace(iteration, params, moments, rows, keys(0))
    assert [call.name for call in workflow.calls] == [
        "generate", "retrieve", "generate#2", "reward", "update",
    ]  # fmt: skip
    assert workflow.batch == ROWS
    assert not workflow.call("retrieve").fusable

    def run(names, devices, batch):
        return Run(names, devices, batch, 1.0, 0, 0)

    turns = run(("generate+retrieve",), 2, 16)
    ends = Space(turns, run(("generate#2", "reward"), 1, 16), 0.0, False)
    plan = Space(Chunks(ends, 2), run(("update",), 1, ROWS), 0.0, False)
    execute = Executor(iteration, plan, params, moments, rows, keys(0))
    planned = execute(params, moments, rows, keys(0))
    called = jax.jit(iteration)(params, moments, rows, keys(0))
    # Sums over rows are taken in another order.
    for a, b in zip(jax.tree.leaves(planned), jax.tree.leaves(called), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    rewards = []
    for index in range(12):
        params, moments, reward = execute(params, moments, rows, keys(index))
        rewards.append(float(reward))
    assert rewards[0] < 0.5 and np.mean(rewards[-2:]) > 0.75, rewards
