"""Perplexity in closed form, bytes counted by hand, and runs that are scored later."""

import math
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.pretrain.data import Rows
from loomax.agents.pretrain.documents import load_documents
from loomax.agents.pretrain.evaluate import evaluate_run, stage_at
from loomax.agents.pretrain.learner import Learner
from loomax.agents.pretrain.score import Score, Scorer, count_bytes
from loomax.cli import main
from loomax.models.lm import shapes
from loomax.runtime.mesh import MeshConfig, make_mesh


def test_numbers_of_a_score():
    score = Score(nats=8 * math.log(2), correct=1.0, tokens=4.0, bytes=8)
    assert score.loss == pytest.approx(2 * math.log(2))
    assert score.perplexity == pytest.approx(4.0)
    assert score.bits_per_byte == pytest.approx(1.0)
    assert score.accuracy == 0.25
    assert Score(1e9, 0.0, 1.0, 0).perplexity < math.inf


def test_bytes_are_those_of_predicted_tokens():
    lengths = np.array([0, 0, 0, 1, 5], np.int32)
    tokens = np.array([[1, 3, 4, 2, 1, 4, 0, 0], [4, 4, 2, 1, 3, 3, 3, 2]], np.int32)
    segments = np.array([[1, 1, 1, 1, 2, 2, 0, 0], [1, 1, 1, 2, 2, 2, 2, 2]], np.int32)
    # Row 1 predicts 3, 4, end; 4. Row 2 predicts 4, end; 3, 3, 3, end.
    rows = Rows(tokens, segments, np.ones(tokens.shape, np.float32))
    assert count_bytes([rows], lengths) == (1 + 5 + 5) + (5 + 1 + 1 + 1)


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary(debug):
    documents = load_documents(debug.data)
    learner = Learner(debug, make_mesh(MeshConfig(), jax.devices()))
    scorer = Scorer(learner, debug.stages[0], documents, numbers=(4, 8, 10))
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes(debug.model))
    score = scorer(nothing)
    assert score.perplexity == pytest.approx(259, rel=1e-5)
    # 40 + 17 + 63 tokens are 7 rows and one token; rows and documents begin with a given one.
    given = {0, 40, 57} | set(range(0, 120, 17))
    assert score.tokens == 120 - len(given)


def test_a_run_is_scored_as_it_scored_itself(finished, debug, capsys):
    run_dir, result = finished
    score = evaluate_run(run_dir, rows=debug.score.rows)
    assert score.loss == pytest.approx(result.loss, rel=1e-6)
    assert score.tokens == result.held_out_tokens
    assert f"held-out documents of {run_dir.name}, after 4 steps: perp" in capsys.readouterr().out


def test_any_documents_can_be_scored_from_the_command_line(finished, folder, capsys):
    run_dir, _ = finished
    main.main(["eval", "perplexity", str(run_dir), "--data", str(folder), "--files", "0[0-3].txt"])
    out = capsys.readouterr().out
    # 3 + 9 + 17 + 5 tokens in two rows of 33: four documents and one row begin with a given one.
    assert out.startswith(f"{folder}, after 4 steps: perplexity") and "29 tokens" in out


def test_what_cannot_be_scored_is_refused(finished, tmp_path, capsys):
    run_dir, _ = finished
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(run_dir / "config.json", bare)
    with pytest.raises(ValueError, match="bare has no checkpoint yet; train it first"):
        evaluate_run(bare)
    (bare / "config.json").write_text('{"name": "quickstart", "env": {}}')
    with pytest.raises(ValueError, match="is a policy's run and has no language model"):
        evaluate_run(bare)
    with pytest.raises(SystemExit):
        main.main(["eval", str(run_dir)])
    assert "is the run of a language model, for loomax eval perplexity" in capsys.readouterr().err


def test_a_run_without_held_out_documents_needs_some(finished, debug, tmp_path):
    from loomax.agents.pretrain.report import write_config

    write_config(tmp_path / "config.json", replace(debug, data=replace(debug.data, held_out=0.0)))
    with pytest.raises(ValueError, match="held nothing out .* give --data PATH"):
        evaluate_run(tmp_path)


def test_steps_belong_to_stages(debug):
    stages = [stage_at(debug, step).length for step in range(1, 6)]
    assert stages == [16, 16, 16, 32, 32]
