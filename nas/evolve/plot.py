"""A search as a picture: scores over latency."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from loomax.nas.evolve.candidate import Candidate
from loomax.nas.evolve.search import Outcome
from loomax.runtime.plots import save_figure


def draw_search(
    outcome: Outcome,
    target: Path,
    device: str,
    limit: float,
    measure: str,
    random: Sequence[Candidate] = (),
) -> Path:
    """Draws all candidates, the front and the winner.

    Args:
        device: whose latency it is.
        limit: seconds that were allowed.
        measure: what the candidates' scores are.
        random: candidates of a random search, to compare with.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    if random:
        axis.scatter(*_points(random), s=9, color="tab:orange", alpha=0.5, label="random search")
    axis.scatter(*_points(outcome.candidates), s=9, color="tab:blue", alpha=0.3, label="judged")
    axis.step(*_points(outcome.front), color="tab:blue", where="post", label="front (search split)")
    times = [candidate.latency * 1e3 for candidate in outcome.front]
    axis.plot(times, outcome.validation, "x", color="tab:green", label="front (validation split)")
    winner = outcome.winner
    label = f"winner (test accuracy {outcome.test:.1%})"
    place = winner.latency * 1e3, winner.score
    axis.plot(*place, "*", color="tab:red", markersize=14, label=label)
    axis.axvline(limit * 1e3, color="grey", linestyle=":", label="limit")
    axis.set_xlabel(f"predicted latency on {device}, ms")
    axis.set_ylabel(measure)
    axis.grid(alpha=0.3)
    axis.legend()
    return save_figure(figure, target)


def _points(candidates: Sequence[Candidate]) -> tuple[list[float], list[float]]:
    """(milliseconds, scores)."""
    return [c.latency * 1e3 for c in candidates], [c.score for c in candidates]
