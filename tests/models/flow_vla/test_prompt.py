"""pi0.5's prompt."""

import numpy as np

from loomax.models.flow_vla.prompt import state_bins, state_prompt


def test_bins_cut_the_range_into_256():
    width = 2 / 256
    state = np.array([-3.0, -1.0, -1 + 0.9 * width, -1 + 1.1 * width, 0.0, 1.0, 2.0])
    assert state_bins(state).tolist() == [0, 0, 0, 1, 128, 255, 255]


def test_prompt_text():
    text = state_prompt("pick_up  the cube\n", np.array([-1.0, 0.0]))
    assert text == "Task: pick up the cube, State: 0 128;\nAction: "
