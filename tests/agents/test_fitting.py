"""`fit` on shipped configurations: the debug ones, compiled for this CPU."""

from dataclasses import replace
from functools import partial

import jax
import pytest

from loomax.agents.fitting import fit_config, search_config, subject_of
from loomax.agents.pretrain.forms import largest_stage
from loomax.agents.pretrain.learner import Learner
from loomax.agents.pretrain.presets import CONFIGS as PRETRAINING
from loomax.agents.rl.presets import CONFIGS as POLICIES
from loomax.memory.forms.form import Form
from loomax.memory.forms.judge import trace
from loomax.runtime.flops import matmul_flops
from loomax.runtime.target import parse_target

DEBUG = PRETRAINING["lm-debug"]
# Two plain layers, which compile in a few seconds.
LAYERS = replace(DEBUG.model, mixer="sliding_window", self_layers=2, cross_layers=0)
LM = replace(DEBUG, model=LAYERS)


@pytest.fixture(scope="module")
def target():
    return parse_target("cpu", LM.mesh)


@pytest.fixture(autouse=True)
def no_verdicts(monkeypatch, tmp_path):
    monkeypatch.setattr("loomax.agents.fitting.cache_folder", lambda kind: tmp_path / kind)


def test_the_stage_that_computes_most_is_taken():
    assert largest_stage(LM) == 1
    parts = replace(LM, stages=(LM.stages[0], replace(LM.stages[1], accumulate=4)))
    assert largest_stage(parts) == 0


def test_a_language_models_step_is_fitted_and_its_config_says_how(target):
    subject = subject_of(LM, None, target.mesh)
    assert subject.given == Form("none", "scan", 1)
    search = search_config(subject, target, 2**40)
    none, full = (search.ask(Form(remat, "scan")).verdict for remat in ("none", "full"))
    assert full.temp_bytes < none.temp_bytes
    subject = replace(subject, bases=(Form(layers="scan"),), names=())
    budget = (none.peak_bytes + full.peak_bytes) // 2
    plan = fit_config(subject, target, budget, levers=False, most=2)
    assert plan.chosen.verdict.peak_bytes <= budget
    config = subject.apply(plan.chosen.form)
    assert config.model.remat == plan.chosen.form.remat != "none"
    assert [stage.accumulate for stage in config.stages] == [1, 1]


def test_what_is_compiled_is_the_trainers_own_step(target):
    """The program has the learner's arrays and its products."""
    subject = subject_of(LM, None, target.mesh)
    ours = trace(subject.build(subject.given, None, target.mesh), target).jaxpr
    learner, stage = Learner(LM, target.mesh), LM.stages[1]
    state = jax.eval_shape(learner.draw, key=jax.random.key(0))
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    shape = (stage.batch, stage.length + 1)
    rows = [jax.ShapeDtypeStruct(shape, kind) for kind in ("int32", "int32", "float32")]
    step = jax.make_jaxpr(partial(learner.step, stage))(state, *rows)
    assert arrays(ours.in_avals) == arrays(step.in_avals)
    assert arrays(ours.out_avals) == arrays(step.out_avals)
    assert matmul_flops(ours) == matmul_flops(step)


def arrays(avals):
    return [(aval.shape, aval.dtype) for aval in avals]


def test_microbatches_become_accumulation(target):
    subject = subject_of(LM, None, target.mesh)
    assert list(subject.parts) == [2, 4, 8]
    config = subject.apply(Form("full", "list", 4))
    assert config.model.unroll
    assert {stage.accumulate for stage in config.stages} == {4}


def test_a_policys_programs():
    mesh = parse_target("cpu").mesh
    debug = POLICIES["debug"]
    subject = subject_of(debug, "sft", mesh)
    assert subject.title == "debug, sft"
    assert subject.apply(Form("keep:2")).policy.model.remat == "keep:2"
    with pytest.raises(ValueError, match="remat and contexts vary"):
        subject.apply(Form(microbatches=2))
    for contexts, stored in (("kept", True), ("again", False)):
        config = subject.apply(Form(contexts=contexts))
        assert config.rl.rollout.store_context == stored
        assert subject_of(config, None, mesh).given == Form(
            debug.policy.model.remat, contexts=contexts
        )
    with pytest.raises(ValueError, match="unknown program 'upd'.*did you mean update"):
        subject_of(debug, "upd", mesh)
    with pytest.raises(ValueError, match="config 'point-mass' has no flow VLA"):
        subject_of(POLICIES["point-mass"], None, mesh)
    with pytest.raises(ValueError, match="unknown program 'update'"):
        subject_of(LM, "update", mesh)


def test_a_policys_step_computes_more_when_recomputed():
    target, debug = parse_target("cpu"), POLICIES["debug"]
    subject = subject_of(debug, "sft", target.mesh)
    none, full, kept = (
        matmul_flops(trace(subject.build(Form(remat), None, target.mesh), target).jaxpr)
        for remat in ("none", "full", "keep:4")
    )
    assert none < kept < full


def test_contexts_that_are_kept_are_not_computed_again():
    target, debug = parse_target("cpu"), POLICIES["debug"]
    subject = subject_of(debug, "update", target.mesh)
    kept, again = (
        matmul_flops(trace(subject.build(form, None, target.mesh), target).jaxpr)
        for form in subject.bases
    )
    assert kept < again
