"""Profiles of real stages: sizes by hand, the cache, and what is refused."""

import jax
import jax.numpy as jnp
import pytest

from loomax.agents.workflow.build import problem_of
from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.measure import profiler
from loomax.agents.workflow.measure.profiler import estimate, measure
from loomax.agents.workflow.plan.choose import choose
from loomax.agents.workflow.stage import Stage, loop
from loomax.agents.workflow.trace import trace

act = Stage("act", lambda w, x: jnp.tanh(x @ w), resident=(0,))
turn = Stage("turn", lambda x: x * 2)
train = Stage("train", lambda w, x: w + (x.T @ x).mean(), resident=(0,), batch_axis=None)
W, X = jax.ShapeDtypeStruct((16, 16), jnp.float32), jax.ShapeDtypeStruct((8, 16), jnp.float32)


def program(w, x):
    x = loop(lambda x: turn(act(w, x)), x, 2)
    return train(w, x)


def rows(measured, stage):
    return {(m.batch, m.devices): m for m in measured.profile.stages[stage].measurements}


def test_a_profile(tmp_path):
    options = dict(batch=8, microbatches=(1, 4), devices=jax.devices()[:2], rounds=1)
    measured = measure(program, W, X, folder=tmp_path, **options)
    assert measured.source == "measured" and measured.cached == 0
    assert set(measured.profile.stages) == {"act", "turn", "act+turn", "train"}
    assert measured.profile.device_kind == "cpu" and set(measured.errors) == set(
        measured.profile.stages
    )
    found = rows(measured, "act")
    assert set(found) == {(8, 1), (8, 2), (2, 1), (2, 2)}
    assert set(rows(measured, "train")) == {(8, 1), (8, 2)}
    # A 16 x 16 matrix stays whole; 8 rows of 16 numbers go in and out, shared by the devices.
    assert {m.resident_bytes for m in found.values()} == {16 * 16 * 4}
    assert found[8, 1].working_bytes >= 2 * 8 * 16 * 4
    assert found[2, 2].working_bytes >= 2 * 16 * 4
    assert rows(measured, "turn")[8, 1].resident_bytes == 0
    again = measure(program, W, X, folder=tmp_path, **options)
    assert again.cached == 14 and again.profile == measured.profile
    # What is measured can be planned, and what is planned runs.
    hardware = Hardware("cpu", 2, 10**9, 1e9, 1e9)
    plan = choose(problem_of(trace(program, W, X), measured.profile, hardware)).plan
    w, x = jnp.ones(W.shape), jnp.ones(X.shape)
    found = Executor(program, plan, w, x)(w, x)
    assert jnp.allclose(found, program(w, x), rtol=1e-6)


def test_another_program_is_measured_anew(tmp_path):
    options = dict(batch=8, microbatches=(1,), devices=jax.devices()[:1], rounds=1)
    measure(lambda x: turn(x), X, folder=tmp_path, **options)
    other = Stage("turn", lambda x: x * 3)
    assert measure(lambda x: other(x), X, folder=tmp_path, **options).cached == 0
    assert measure(lambda x: turn(x), X, folder=tmp_path, **options).cached == 1


def test_a_broken_cache_is_no_cache(tmp_path):
    options = dict(batch=8, microbatches=(1,), devices=jax.devices()[:1], rounds=1)
    measure(lambda x: turn(x), X, folder=tmp_path, **options)
    (path,) = tmp_path.glob("*.json")
    path.write_text("{")
    assert measure(lambda x: turn(x), X, folder=tmp_path, **options).cached == 0


def test_stages_that_are_not_jax(tmp_path):
    host = Stage("host", lambda x: x + 1, fusable=False)
    options = dict(batch=8, microbatches=(1,), rounds=1, folder=tmp_path)
    measured = measure(lambda x: host(x), X, devices=jax.devices()[:1], **options)
    assert rows(measured, "host")[8, 1].working_bytes == 2 * 8 * 16 * 4
    assert not list(tmp_path.iterdir())


def test_microbatches_are_multiples(tmp_path):
    host = Stage("host", lambda x: x + 1, fusable=False, multiple=4)
    options = dict(batch=8, microbatches=(1, 2, 4), rounds=1, folder=tmp_path)
    measured = measure(lambda x: turn(host(x)), X, devices=jax.devices()[:1], **options)
    assert set(rows(measured, "host")) == {(8, 1), (4, 1)}
    assert set(rows(measured, "turn")) == {(8, 1), (4, 1), (2, 1)}


def test_an_estimate_is_called_one(tmp_path, monkeypatch):
    # The host compiler in place of libtpu's: it says nothing about time.
    monkeypatch.setattr(profiler, "topology_mesh", lambda name: jax.make_mesh((2,), ("x",)))
    monkeypatch.setattr(profiler, "estimate_options", lambda generation: {})
    options = dict(batch=8, microbatches=(1,), topology="v5e:1x2", folder=tmp_path)
    measured = estimate(program, W, X, **options)
    assert measured.source == measured.profile.source == "estimate"
    assert rows(measured, "act")[8, 1].resident_bytes == 16 * 16 * 4
    assert all(m.seconds > 0 for m in rows(measured, "train").values())
    host = Stage("host", lambda x: x + 1, fusable=False)
    with pytest.raises(ValueError, match="'host' is not JAX: it can be measured"):
        estimate(lambda x: host(x), X, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(rounds=0), "rounds is 0"),
        (dict(microbatches=(3,)), "a batch of 8 divides into none of the microbatches"),
    ],
)
def test_what_cannot_be_measured(options, message):
    with pytest.raises(ValueError, match=message):
        measure(lambda x: turn(x), X, **(dict(batch=8) | options))
