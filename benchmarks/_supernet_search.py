"""Search on the shapes supernet against random search, and the time that proposing takes.

Not on digits: there the best of 200 random networks already gets 99.6 % of the 240 images that a
search sees, so nothing is left to find. Of the shapes four times as many as usual: 819 test images
tell networks apart to 1.7 points only, which is more than a search gains.
"""

import importlib.util
import time
from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np

from benchmarks._rows import Row, compare, device_name
from loomax.nas.evolve.config import EvolveConfig
from loomax.nas.evolve.constraint import Constraint, make_constraint
from loomax.nas.evolve.exam import Exam, Scores
from loomax.nas.evolve.judge import supernet_scores
from loomax.nas.evolve.search import conclude, evolve, random_search
from loomax.nas.oracle.build import build_table
from loomax.nas.oracle.devices import oracle_of
from loomax.nas.oracle.predict import Predictor, bound_predictor, predictor_of
from loomax.nas.space.arch import Arch
from loomax.nas.space.count import count
from loomax.nas.space.draw import generator, random_arch
from loomax.nas.space.elasticvit import elasticvit_space
from loomax.nas.space.space import Space
from loomax.nas.train.config import SupernetTrainConfig
from loomax.nas.train.evaluate import open_run
from loomax.nas.train.presets import CONFIGS
from loomax.nas.train.train import train
from loomax.runtime.compile import cache_folder

CANDIDATES, RANDOM = 1000, 200
# Limits: latencies that these shares of the space's uniform networks stay within.
TARGETS = {"fast": 0.2, "middle": 0.5, "slow": 0.8}
FOLDER = cache_folder("bench")


def rows(quick: bool) -> list[Row]:
    """Test accuracy for three limits on two devices, and seconds of 5,000 candidates."""
    config = trained_config(quick)
    name = config.name
    run = FOLDER / f"supernet-{name}-{config.data.images}-{config.steps}"
    train(config, run)
    trained = open_run(run)
    scores = remembered(supernet_scores(trained))
    found = []
    for device in devices(quick):
        latency = latencies(trained.space, name, device)
        for target, share in TARGETS.items():
            limit = quantile(latency, share)
            found += _compared(
                f"search-{device}-{target}", make_constraint(latency, limit), scores, quick
            )
    return found + [proposals(500 if quick else 5000)]


def trained_config(quick: bool) -> SupernetTrainConfig:
    """Of the supernet that is searched."""
    if quick:
        return CONFIGS["digits-debug"]
    shapes = CONFIGS["shapes"]
    return replace(shapes, steps=4000, data=replace(shapes.data, images=16_384))


def devices(quick: bool) -> list[str]:
    """This CPU, and a TPU as its compiler sees it; bounds where a table would take long."""
    if quick:
        return ["roofline-v5e", "roofline-h100"]
    return ["cpu", "v5e" if importlib.util.find_spec("libtpu") else "roofline-v5e"]


def latencies(space: Space, name: str, device: str) -> Predictor:
    """The predictor of a device; its table is kept, and made once."""
    oracle = oracle_of(device)
    if oracle.source == "roofline":
        return bound_predictor(space, oracle)
    path = FOLDER / "tables" / f"{name}-{device}.json"
    return predictor_of(space, build_table(space, name, oracle, path, progress=True))


def quantile(latency: Predictor, share: float) -> float:
    """The latency that a share of 500 uniform networks stays within, seconds."""
    archs = [random_arch(latency.space, generator(1, number)) for number in range(500)]
    return float(np.quantile([latency(arch) for arch in archs], share))


def remembered(scores: Scores) -> Scores:
    """The same, computing each once: searches of other seeds meet the same networks."""
    known: dict[tuple[str, Arch], float] = {}

    def lookup(archs: Sequence[Arch], split: str) -> list[float]:
        new = [arch for arch in archs if (split, arch) not in known]
        if new:
            values = scores(new, split)
            known.update({(split, a): v for a, v in zip(new, values, strict=True)})
        return [known[split, arch] for arch in archs]

    return lookup


def _compared(case: str, constraint: Constraint, scores: Scores, quick: bool) -> list[Row]:
    """Test accuracy of the winners, against random search with fewer and with as many networks."""
    evolved, drawn = (30, 20) if quick else (CANDIDATES, RANDOM)
    searches = {
        case: (evolve, evolved),
        f"random-{drawn}": (random_search, drawn),
        f"random-{evolved}": (random_search, evolved),
    }
    samples: dict[str, list[float]] = {name: [] for name in searches}
    for seed in range(1 if quick else 3):
        for name, (search, budget) in searches.items():
            exam = Exam(scores)
            config = EvolveConfig(budget, seed=seed)
            samples[name].append(conclude(exam, search(constraint, exam, config, True)).test)
    baselines = [name for name in searches if name != case]
    return compare("supernet", "accuracy", "share", samples, case, baselines)[: len(baselines)]


def proposals(candidates: int) -> Row:
    """Seconds that a search in ElasticViT's space takes, evaluation of networks aside."""
    space = elasticvit_space()
    latency = bound_predictor(space, oracle_of("roofline-v5e", 8))

    def accuracy(archs: Sequence[Arch], split: str) -> list[float]:
        sizes = [count(space, arch).macs for arch in archs]
        return [size / (size + 1e9) for size in sizes]

    limit = quantile(latency, 0.3)
    start = time.perf_counter()
    constraint = make_constraint(latency, limit)
    made = time.perf_counter()
    exam = Exam(accuracy)
    judged = evolve(constraint, exam, EvolveConfig(candidates, population=100), progress=True)
    end = time.perf_counter()
    counted = time.perf_counter()
    accuracy([candidate.arch for candidate in judged], "search")
    spent = end - start - (time.perf_counter() - counted)
    print(f"tables {made - start:.1f} s; {len(judged)} candidates {spent:.1f} s in all")
    case = f"search-{candidates}"
    return Row(
        "supernet", case, "seconds", spent, "s", None, None, 1, device_name(), jax.__version__
    )
