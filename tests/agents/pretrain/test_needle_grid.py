"""Answers by reading in blocks equal answers from whole prompts; cells, files and the command."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.pretrain.evaluate import evaluate_needles
from loomax.agents.pretrain.needle_grid import (
    ANSWER,
    Cell,
    GridConfig,
    Reader,
    prompts,
    score_grid,
)
from loomax.agents.pretrain.needle_report import by_length, draw_heat_map
from loomax.agents.pretrain.needles import Facts, Prompt
from loomax.agents.pretrain.presets import CONFIGS
from loomax.agents.pretrain.tokens import encoder
from loomax.models.lm import create, logits
from loomax.runtime.axes import MeshConfig
from loomax.runtime.mesh import make_mesh

MODEL = CONFIGS["lm-debug"].model
ENCODE = encoder("bytes")
HAY = ENCODE("a hay of letters, none of which is a fact")
LENGTH, BLOCK = 70, 32


def mesh(devices):
    return make_mesh(MeshConfig(), jax.devices()[:devices])


@pytest.fixture(scope="module")
def params():
    return jax.jit(lambda: create(MODEL, key=jax.random.key(0)))()


@pytest.fixture(scope="module")
def readers():
    made = {}

    def get(devices):
        if devices not in made:
            made[devices] = Reader(MODEL, mesh(devices), block=BLOCK, slots=3 * BLOCK + ANSWER)
        return made[devices]

    return get


def greedy(params, tokens, count):
    """The likeliest tokens, one after the other, from the whole sequence each time."""
    run = jax.jit(lambda t: logits(MODEL, params, t).argmax(-1))
    padded = np.zeros((1, len(tokens) + count), np.int32)
    padded[0, : len(tokens)] = tokens
    for at in range(len(tokens), len(tokens) + count):
        padded[0, at] = run(jnp.array(padded))[0, at - 1]
    return padded[0, len(tokens) :]


@pytest.mark.parametrize("devices", [1, 4])
def test_answers_are_right_when_greedy_decoding_gives_them(params, readers, devices):
    grid = GridConfig((LENGTH,), trials=2)
    asked = prompts(grid, Facts(ENCODE), HAY, LENGTH, 0.5)
    said = [Prompt(one.tokens, greedy(params, one.tokens, 4)) for one in asked]
    wrong = [Prompt(one.tokens, (one.answer + [0, 0, 0, 1]) % MODEL.vocab) for one in said]
    # Shorter answers of a batch are right by their own tokens.
    short = [Prompt(said[0].tokens, said[0].answer[:2])]
    found = readers(devices)(params, said + wrong + short)
    np.testing.assert_array_equal(found, [True, True, False, False, True])


def test_prompts_are_drawn_again_and_differ_between_cells():
    grid, facts = GridConfig((64, 80), trials=3, needles=1), Facts(ENCODE)
    first = prompts(grid, facts, HAY, 64, 0.0)
    again = prompts(grid, facts, HAY, 64, 0.0)
    assert all((a.tokens == b.tokens).all() for a, b in zip(first, again, strict=True))
    other = prompts(grid, facts, HAY, 64, 1.0)
    assert any((a.answer != b.answer).any() for a, b in zip(first, other, strict=True))


def test_a_grid_has_a_cell_for_each_length_and_depth(params, readers):
    grid = GridConfig((80, LENGTH), depths=3, trials=2)
    cells = score_grid(grid, readers(1), params, Facts(ENCODE), HAY, enabled=False)
    places = [(cell.length, cell.depth) for cell in cells]
    assert places == [(length, depth) for length in (LENGTH, 80) for depth in (0.0, 0.5, 1.0)]
    # Parameters that were just drawn know nothing.
    assert all(cell.found == 0 and cell.trials == 2 for cell in cells)


def test_shares_by_length_and_their_picture(tmp_path):
    cells = [Cell(10, 0.0, 1, 4), Cell(10, 1.0, 2, 4), Cell(20, 0.0, 4, 4), Cell(20, 1.0, 4, 4)]
    assert by_length(cells) == {10: 3 / 8, 20: 1.0}
    target = draw_heat_map(tmp_path / "plots" / "map.png", cells, "two lengths", 10)
    assert target.stat().st_size > 1000 and list(target.parent.iterdir()) == [target]


def test_a_finished_run_is_asked(finished):
    """All files are written whole; by default it begins at the longest rows, here too short."""
    run_dir, _ = finished
    cells = evaluate_needles(run_dir, GridConfig((64, 256), depths=1, trials=1, block=64))
    assert [cell.length for cell in cells] == [64, 256]
    held = json.loads((run_dir / "needle" / "needles-1.json").read_text())
    assert held["trained"] == 32 and len(held["cells"]) == len(cells)
    assert (run_dir / "needle" / "needles-1.png").exists()
    with pytest.raises(ValueError, match="1 needles and a question do not fit 32 tokens"):
        evaluate_needles(run_dir, GridConfig(()))


def test_stretched_positions_change_what_is_read(finished, monkeypatch):
    seen = []

    class Stop(Exception):
        pass

    def stop(model, *args, **kwargs):
        seen.append(model.rope)
        raise Stop

    monkeypatch.setattr("loomax.agents.pretrain.evaluate.Reader", stop)
    with pytest.raises(Stop):
        evaluate_needles(finished[0], GridConfig((64,)), scaling="yarn", factor=4.0)
    rope = seen[0]
    assert (rope.scaling, rope.factor, rope.original, rope.theta) == ("yarn", 4.0, 32, 40_000.0)


@pytest.mark.parametrize("name", ["depths", "needles", "trials", "block"])
def test_nothing_to_ask_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        replace(GridConfig((8,)), **{name: 0})
    with pytest.raises(ValueError, match="each must be at least 1"):
        GridConfig((8, 0))
