"""A whole search on a trained supernet: latencies, evolution, the found network in files."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from loomax.models.elastic.deploy.export import export_network, reload_errors
from loomax.models.elastic.deploy.network import Network
from loomax.nas.evolve.candidate import Candidate
from loomax.nas.evolve.config import EvolveConfig, Measure
from loomax.nas.evolve.constraint import Constraint, make_constraint
from loomax.nas.evolve.exam import Exam, Scores
from loomax.nas.evolve.finetune import FinetuneConfig, finetune
from loomax.nas.evolve.journal import Journal
from loomax.nas.evolve.judge import network_accuracy, supernet_scores
from loomax.nas.evolve.plot import draw_search
from loomax.nas.evolve.search import Outcome, conclude, evolve, random_search
from loomax.nas.oracle.predict import Predictor
from loomax.nas.space.arch import to_json
from loomax.nas.space.count import count
from loomax.nas.space.space import Space
from loomax.nas.train.evaluate import Trained, extract_network
from loomax.runtime.files import atomic_write
from loomax.runtime.owner import own

# What logits of a reloaded network may differ by: other programs round otherwise.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class SearchConfig:
    """What is searched for.

    Args:
        device: whose latency counts.
        latency, at_least: seconds, the window.
        evolve: settings of the search.
        random: candidates of a random search, to compare with; 0 leaves it out.
        finetune: steps for the found network; 0 leaves it as the supernet trained it.
        measure: of the networks that are searched; see `loomax.nas.evolve.judge`.
    """

    device: str
    latency: float
    at_least: float = 0.0
    evolve: EvolveConfig = EvolveConfig()
    random: int = 0
    finetune: int = 0
    measure: Measure = "confidence"


@dataclass(frozen=True)
class Found:
    """What a search left behind.

    Args:
        outcome: of the evolution.
        random: of the random search, None without.
        paths: of its files, by kind.
        errors: for each exported file, the largest difference of logits after reading it again.
    """

    outcome: Outcome
    random: Outcome | None
    paths: dict[str, Path]
    errors: dict[str, float]


def search_and_export(
    trained: Trained,
    latency: Predictor,
    config: SearchConfig,
    out: Path,
    origin: Mapping[str, object],
    progress: bool = False,
) -> Found:
    """Searches, takes the winner out of the supernet, and writes it to `out`.

    Stopped at any time and called again with the same arguments, it goes on where it was.

    Args:
        origin: of the latencies, for the journal.

    Raises:
        ValueError: no network is within the window, `out` holds another search, or another process
            searches there now.
    """
    with own(out, advice="wait for it to end (--wait), or give another --out"):
        return _search(trained, latency, config, out, origin, progress)


def _search(
    trained: Trained,
    latency: Predictor,
    config: SearchConfig,
    out: Path,
    origin: Mapping[str, object],
    progress: bool,
) -> Found:
    constraint = make_constraint(latency, config.latency, config.at_least)
    scores = supernet_scores(trained, config.measure)
    of = {"origin": dict(origin), "latencies": _digest(latency), "run": _digest(trained.params)}
    settings = json.loads(json.dumps(asdict(config) | of))
    made: list[Network] = []

    def finish(winner: Candidate) -> Scores | None:
        network = extract_network(trained, winner.arch)
        if config.finetune:
            tuning = FinetuneConfig(config.finetune, seed=config.evolve.seed)
            network = finetune(trained, network, tuning, progress)
        made.append(network)
        return network_accuracy(trained, network)

    with Journal(out / "search.jsonl", settings) as journal:
        exam = Exam(scores, journal, config.evolve.batch)
        outcome = conclude(exam, evolve(constraint, exam, config.evolve, progress), finish)
    beside = _random(constraint, scores, config, settings, out, progress)
    paths = export_network(out / "network", made[-1], trained.space.channels)
    errors = reload_errors(paths, made[-1], _images(made[-1], trained.space))
    worst = max(errors, key=errors.__getitem__)
    if errors[worst] > _TOLERANCE:
        raise RuntimeError(f"{paths[worst]} gives logits that differ by {errors[worst]:.3g}")
    paths |= _report(constraint, config, outcome, beside, out)
    return Found(outcome, beside, {"journal": out / "search.jsonl"} | paths, errors)


def _random(
    constraint: Constraint,
    scores: Scores,
    config: SearchConfig,
    settings: dict,
    out: Path,
    progress: bool,
) -> Outcome | None:
    if not config.random:
        return None
    drawn = EvolveConfig(config.random, batch=config.evolve.batch, seed=config.evolve.seed)
    with Journal(out / "random.jsonl", settings) as journal:
        exam = Exam(scores, journal, drawn.batch)
        return conclude(exam, random_search(constraint, exam, drawn, progress))


def _digest(content: Predictor | PyTree) -> str:
    """Changes with prices, or with any parameter."""
    found = hashlib.sha256()
    if isinstance(content, Predictor):
        prices = sorted((repr(block), price) for block, price in content.prices.items())
        found.update(repr((content.constant, prices)).encode())
    else:
        for leaf in jax.tree.leaves(content):
            found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()[:16]


def _images(network: Network, space: Space) -> jax.Array:
    side = network.spec.resolution
    return jax.random.uniform(jax.random.key(0), (2, side, side, space.channels), minval=-1.0)


def _report(
    constraint: Constraint,
    config: SearchConfig,
    outcome: Outcome,
    random: Outcome | None,
    out: Path,
) -> dict[str, Path]:
    """Writes the winner's architecture, a summary and the picture."""
    space, winner = constraint.latency.space, outcome.winner
    cost = count(space, winner.arch)
    front = [
        {
            "latency_s": candidate.latency,
            "search": candidate.score,
            "validation": validation,
            "arch": json.loads(to_json(candidate.arch)),
        }
        for candidate, validation in zip(outcome.front, outcome.validation, strict=True)
    ]
    summary = {
        "arch": json.loads(to_json(winner.arch)),
        "latency_s": winner.latency,
        "device": config.device,
        "macs": cost.macs,
        "params": cost.params,
        "candidates": len(outcome.candidates),
        "measure": config.measure,
        "test": outcome.test,
        "test_of_random": random.test if random else None,
        "front": front,
    }
    paths = {"summary": out / "result.json", "picture": out / "pareto.png"}
    atomic_write(paths["summary"], json.dumps(summary, indent=1) + "\n")
    beside = random.candidates if random else ()
    draw_search(outcome, paths["picture"], config.device, constraint.high, config.measure, beside)
    return paths
