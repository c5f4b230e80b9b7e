"""Sampling rules at equal budgets: how good nets of the supernet are, and how well it ranks them.

Every rule trains the digits supernet with as many steps of as many nets, from five seeds. Nets
drawn at random are also trained alone, each on as many images as a net of the supernet's step
sees, and Kendall's tau compares the two orders of their test accuracies.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks._rows import Row, compare, device_name
from loomax.models.elastic.extract import extract
from loomax.nas.space.arch import Arch
from loomax.nas.space.draw import generator, random_arch
from loomax.nas.space.encode import encode
from loomax.nas.train.choice import Choice
from loomax.nas.train.config import DistillConfig, SamplerConfig, SupernetTrainConfig
from loomax.nas.train.lineup import line_up
from loomax.nas.train.presets import CONFIGS, DIGITS_BANKS
from loomax.nas.train.train import Trainer, open_source
from loomax.runtime.metrics import MetricsWriter

BENCH = "supernet"
RULES = ("uniform", "sandwich", "complexity", "performance")
SIZES = {"smallest": "min", "median": "median", "largest": "max"}


def rows(quick: bool) -> list[Row]:
    """Accuracies and rank correlations of every rule."""
    steps, seeds, ranked = (60, 2, 4) if quick else (600, 5, 12)
    base = replace(
        CONFIGS["digits"],
        steps=steps,
        distill=DistillConfig(warmup=steps // 4, ramp=steps // 4),
        log_every=steps,
        score_every=steps,
        checkpoint_every=steps,
    )
    found = Bench(base)
    nets = [random_arch(found.space, generator(7, number)) for number in range(ranked)]
    alone = [found.alone(arch) for arch in nets]
    print(f"trained alone: {', '.join(f'{value:.1%}' for value in alone)}", flush=True)
    scores: dict[str, list[dict[str, float]]] = {}
    for rule in RULES:
        scores[rule] = [found.supernet(rule, seed, nets, alone) for seed in range(seeds)]
    return [row for rule in RULES for row in rule_rows(rule, scores)]


class Bench:
    """Runs that share their compiled programs."""

    def __init__(self, base: SupernetTrainConfig):
        self.base, self.folder = base, Path(tempfile.mkdtemp())
        self.source = open_source(base.data)
        self.trainer = self.make("sandwich", 0)
        self.space = self.trainer.space
        self.test = self.trainer.scorer("test")

    def make(self, rule: str, seed: int) -> Trainer:
        """A run that uses the first one's programs."""
        sampler = SamplerConfig(rule, 4, DIGITS_BANKS)
        config = replace(self.base, sampler=sampler, seed=seed)
        made = Trainer(config, self.folder / f"{rule}-{seed}", self.source)
        if hasattr(self, "trainer"):
            made.stepper = self.trainer.stepper
        return made

    def supernet(
        self, rule: str, seed: int, nets: Sequence[Arch], alone: Sequence[float]
    ) -> dict[str, float]:
        """Test accuracies of a supernet's nets, and Kendall's tau."""
        run = self.make(rule, seed)
        with MetricsWriter(run.run_dir) as writer:
            state = run.learn(*run.begin(), writer)
        ours = self.test.accuracies(state.params, nets)
        found = {
            SIZES[name]: value for name, value in run.extremes(self.test, state.params).items()
        }
        found["tau"] = float(stats.kendalltau(ours, alone).statistic)
        print(rule, seed, found, flush=True)
        return found

    def alone(self, arch: Arch) -> float:
        """Test accuracy of a net that was trained alone, by the supernet's program: parameters
        that it does not use are 0 and stay so."""
        run = self.make("uniform", 0)
        state = run.begin()[0]
        state = run.learner.begin(jax.tree.map(jnp.multiply, state.params, self.used(run, arch)))
        rounds = line_up(self.space, Choice((arch,), 1), 1)
        batches = run.batches()
        for _ in range(self.base.steps):
            state, _, _ = run.stepper(state, run.batch(next(batches)), rounds)
        return self.test.accuracy(state.params, arch)

    def used(self, run: Trainer, arch: Arch) -> Any:
        """1 for parameters that a net uses, else 0: the gradient of the sum of its own."""

        def total(params: Any) -> jax.Array:
            _, own = extract(run.learner.supernet, params, encode(self.space, arch))
            return sum(leaf.sum() for leaf in jax.tree.leaves(own))

        return jax.grad(total)(run.begin()[0].params)


def rule_rows(rule: str, scores: dict[str, list[dict[str, float]]]) -> list[Row]:
    """A rule's rows, against uniform sampling; intervals are printed."""
    case, found = f"sampler-{rule}", []
    for name in ("min", "median", "max", "tau"):
        samples = {f"sampler-{r}": [score[name] for score in scores[r]] for r in (rule, "uniform")}
        metric = "kendall_tau" if name == "tau" else f"{name}_accuracy"
        values = np.asarray(samples[case])
        reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        print(f"{case}/{metric}: {values.mean():.3f} +- {reach:.3f} (95 %, t)", flush=True)
        if name == "tau" or rule == "uniform":
            middle, n = float(np.median(values)), len(values)
            where, version = device_name(), jax.__version__
            found.append(Row(BENCH, case, metric, middle, "", None, None, n, where, version))
        else:
            found += compare(BENCH, metric, "", samples, case, ["sampler-uniform"])[:1]
    return found
