"""Programs traced to graphs, and graphs without cycles."""

import jax
import jax.numpy as jnp
import pytest

from loomax.agents.workflow.stage import Stage, loop, size_in_bytes
from loomax.agents.workflow.trace import trace
from loomax.agents.workflow.workflow import Call, Edge, Workflow, condense

act = Stage("act", lambda params, obs: jnp.tanh(obs @ params), resident=(0,))
simulate = Stage("simulate", lambda state, action: {"state": state + 1, "obs": state[:, :8] * 2})
score = Stage("score", lambda obs, action: (obs.mean(-1), action.sum(-1)))
train = Stage(
    "train",
    lambda params, obs, reward: params + (obs.T @ reward).sum(),
    resident=(0,),
    batch_axis=None,
)
PARAMS = jax.ShapeDtypeStruct((8, 3), jnp.float32)
STATE = jax.ShapeDtypeStruct((64, 16), jnp.float32)
OBS = jax.ShapeDtypeStruct((64, 8), jnp.float32)


def program(params, state, obs):
    def step(carry):
        state, obs = carry
        found = simulate(state, act(params, obs))
        return found["state"], found["obs"]

    _, obs = loop(step, (state, obs), 5)
    reward, _ = score(obs, act(params, obs))
    return train(params, obs, reward)


def edges(workflow) -> dict:
    return {(e.source, e.target, e.back): e.bytes_per_item for e in workflow.edges}


def test_a_program_becomes_a_graph():
    workflow = trace(program, PARAMS, STATE, OBS)
    assert [(c.name, c.stage, c.times) for c in workflow.calls] == [
        ("act", "act", 5),
        ("simulate", "simulate", 5),
        ("act#2", "act", 1),
        ("score", "score", 1),
        ("train", "train", 1),
    ]
    assert workflow.batch == 64
    assert edges(workflow) == {
        ("act", "simulate", False): 5 * 3 * 4,
        ("simulate", "act", True): 5 * 8 * 4,
        ("simulate", "simulate", True): 5 * 16 * 4,
        ("simulate", "act#2", False): 8 * 4,
        ("simulate", "score", False): 8 * 4,
        ("act#2", "score", False): 3 * 4,
        ("simulate", "train", False): 8 * 4,
        ("score", "train", False): 4,
    }
    assert workflow.call("train").resident_bytes == 8 * 3 * 4
    assert workflow.call("train").batch_axis is None
    assert workflow.call("simulate").output["obs"] == OBS


def test_the_same_program_runs():
    params, state, obs = (jnp.ones(x.shape) for x in (PARAMS, STATE, OBS))
    assert program(params, state, obs).shape == PARAMS.shape


def test_cycles_collapse():
    groups, links = condense(trace(program, PARAMS, STATE, OBS))
    assert [group.name for group in groups] == ["act+simulate", "act#2", "score", "train"]
    assert links == {(0, 1): 32, (0, 2): 32, (1, 2): 12, (0, 3): 32, (2, 3): 4}


def test_a_cycle_through_three_calls_and_a_tail():
    calls = tuple(Call(name, name, (), None) for name in "abcd")
    flows = (("a", "b"), ("b", "c"), ("c", "a"), ("b", "d"), ("d", "d"))
    workflow = Workflow(calls, tuple(Edge(*ends, 2.0) for ends in flows), 8)
    groups, links = condense(workflow)
    assert [group.name for group in groups] == ["a+b+c", "d"] and links == {(0, 1): 2.0}


def test_a_stage_may_return_the_carry():
    swap = Stage("swap", lambda pair: (pair[1], pair[0]))
    workflow = trace(lambda x, y: loop(lambda pair: swap(pair), (x, y), 3), OBS, OBS)
    assert edges(workflow) == {("swap", "swap", True): 3 * 2 * 32}
    assert workflow.calls[0].output == (OBS, OBS)


def test_nested_loops_multiply():
    def nested(x):
        def inner(x):
            return train_like(x)

        return loop(lambda x: loop(inner, x, 3), x, 4)

    train_like = Stage("step", lambda x: x * 2)
    workflow = trace(nested, OBS)
    assert workflow.calls[0].times == 12
    assert edges(workflow) == {("step", "step", True): 12 * 32}


def test_what_works_in_the_background():
    outside = Stage("outside", lambda x: x, fusable=False, background=True, multiple=2)
    (call,) = trace(outside, OBS).calls
    assert (call.fusable, call.background, call.multiple) == (False, True, 2)
    with pytest.raises(ValueError, match="stage 's': multiple is 0: give 1 or more"):
        Stage("s", lambda x: x, multiple=0)


def test_an_edge_to_nowhere():
    with pytest.raises(ValueError, match="leads to 'b': there is a"):
        Workflow((Call("a", "a", (), None),), (Edge("a", "b", 1.0),), 8)


@pytest.mark.parametrize("name", ["", "a+b", "a#2"])
def test_stage_names(name):
    with pytest.raises(ValueError, match="use a word without"):
        Stage(name, lambda x: x)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (lambda x: x, "calls no stage"),
        (lambda x: loop(lambda x: x, x, 0), "a loop of 0 steps"),
        (lambda x: jnp.sin(act(PARAMS, x)), "only shapes while .* inside a stage"),
        (lambda x: act(PARAMS, x) + 1, "inside a stage"),
        (lambda x: act(PARAMS, x)[0], "inside a stage"),
        (lambda x: 1 if act(PARAMS, x) else 2, "inside a stage"),
        (lambda x: loop(lambda x: (x, x), x, 2), "its body returns .*: keep it"),
        (lambda x: loop(lambda x: act(PARAMS, x), x, 2), "keep shapes and types"),
    ],
)
def test_broken_programs(code, message):
    with pytest.raises(ValueError, match=message):
        trace(code, OBS)


def test_a_batch_has_to_be_known():
    def alone(params):
        return train(params, jnp.ones((4, 8)), jnp.ones(4))

    with pytest.raises(ValueError, match="give batch"):
        trace(alone, PARAMS)
    assert trace(alone, PARAMS, batch=4).batch == 4


def test_sizes():
    assert size_in_bytes({"a": OBS, "b": jax.ShapeDtypeStruct((3,), jnp.bfloat16)}) == 2048 + 6
