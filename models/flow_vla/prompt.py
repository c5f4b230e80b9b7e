"""pi0.5's prompt: the task and the discretised state as text."""

import numpy as np
from jaxtyping import Float

BINS = 256


def state_bins(state: Float[np.ndarray, " P"]) -> np.ndarray:
    """Bin 0 .. 255 of every number of a state in [-1, 1]; numbers outside go to the end bins."""
    edges = np.linspace(-1, 1, BINS + 1)[:-1]
    return np.clip(np.digitize(np.asarray(state, np.float64), edges) - 1, 0, BINS - 1)


def state_prompt(task: str, state: Float[np.ndarray, " P"]) -> str:
    """The text that pi0.5 reads in place of a state token."""
    numbers = " ".join(str(int(b)) for b in state_bins(state))
    said = " ".join(task.replace("_", " ").split())
    return f"Task: {said}, State: {numbers};\nAction: "
