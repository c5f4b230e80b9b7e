"""Residents that several stages hold are counted once where they share devices."""

import jax
import jax.numpy as jnp
import pytest

from loomax.agents.workflow.build import problem_of
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.choose import find_plan
from loomax.agents.workflow.plan.config import PlanConfig
from loomax.agents.workflow.plan.problem import held
from loomax.agents.workflow.plan.tree import cost
from loomax.agents.workflow.profile import Measurement, Profile, StageProfile
from loomax.agents.workflow.stage import Stage, loop, size_in_bytes
from loomax.agents.workflow.trace import trace

act = Stage("act", lambda params, x: x @ params["w"], resident=(0,))
judge = Stage("judge", lambda params, x: x + params["b"], resident=(0,))
train = Stage("train", lambda params, m, x: (params, m), resident=(0, 1), batch_axis=None)
PARAMS = {
    "w": jax.ShapeDtypeStruct((4, 4), jnp.float32),
    "b": jax.ShapeDtypeStruct((4,), jnp.float32),
}
X = jax.ShapeDtypeStruct((8, 4), jnp.float32)


def program(params, moments, x):
    return train(params, moments, act(params, x))


def test_calls_name_what_they_hold():
    calls = trace(program, PARAMS, PARAMS, X).calls
    assert dict(calls[0].residents) == {"input 0['w']": 64, "input 0['b']": 16}
    assert dict(calls[1].residents) == {
        f"input {i}[{name!r}]": size for i in (0, 1) for name, size in (("w", 64), ("b", 16))
    }
    assert [call.resident_bytes for call in calls] == [80, 160]


def test_a_fused_program_holds_them_once():
    def stage(resident):
        return StageProfile((Measurement(8, 1, 1.0, resident, 8),))

    profile = Profile("cpu", {"act": stage(80), "train": stage(160)})
    problem = problem_of(
        trace(program, PARAMS, PARAMS, X), profile, Hardware("cpu", 1, 10**6, 1e9, 1e9)
    )
    plan = find_plan(problem, PlanConfig(("fused",), (1,)))
    assert cost(plan).resident_bytes == 160


def test_a_cycle_holds_them_once():
    def program(params, x):
        return loop(lambda x: judge(params, act(params, x)), x, 2)

    one = StageProfile((Measurement(8, 1, 1.0, 80, 8),))
    workflow, hardware = trace(program, PARAMS, X), Hardware("cpu", 1, 10**6, 1e9, 1e9)
    (unit,) = problem_of(workflow, Profile("cpu", {"act": one, "judge": one}), hardware).units
    assert [option.resident_bytes for option in unit.options(8, 1)] == [80]


def test_a_stage_comes_after_what_it_holds():
    def later(params, moments, x):
        params, moments = train(params, moments, x)
        return act(params, x)

    (edge,) = trace(later, PARAMS, PARAMS, X).edges
    assert (edge.source, edge.target, edge.bytes_per_item) == ("train", "act", 0.0)


@pytest.mark.parametrize(
    ("parts", "bytes_held"),
    [
        ([], 0),
        ([(10, ()), (20, ())], 30),
        ([(10, [("a", 1.0)]), (20, [("a", 0.5), ("b", 0.5)])], 20),
        # Sliced differently, the larger copy counts.
        ([(20, [("a", 0.5)]), (6, [("a", 1.0)]), (12, [("a", 1.0)])], 22),
    ],
)
def test_held(parts, bytes_held):
    assert held(parts) == bytes_held


def test_typed_keys_have_a_size():
    assert size_in_bytes(jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3))) == 24
