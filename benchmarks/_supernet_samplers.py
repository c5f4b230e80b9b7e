"""Sampling rules at equal budgets: how good nets of the supernet are, and how well it ranks them.

Every rule trains the supernets of digits and shapes with as many steps of as many nets, from five
seeds. Nets drawn at random are also trained alone, each on as many images as a net of the
supernet's step sees, and Kendall's tau compares the two orders of their test accuracies.

Finished runs are kept in the cache folder (its path is printed), and an interrupted benchmark goes
on with the others. Runs of other settings, images or JAX are kept apart, those of other code are
not: delete the folder after a change of the training.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
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
from loomax.runtime.compile import cache_folder
from loomax.runtime.files import atomic_write
from loomax.runtime.metrics import MetricsWriter
from loomax.runtime.progress import Progress

BENCH = "supernet"
RULES = ("uniform", "sandwich", "complexity", "performance")
SIZES = {"smallest": "min", "median": "median", "largest": "max"}
NETS = 4
# Data sets and what is added to the names of their cases.
DATA = {"digits": "", "shapes": "-shapes"}
# Steps by which most nets are far from chance.
STEPS = {"digits": 200, "shapes": 300}

Scores = dict[str, list[dict[str, float]]]


def rows(quick: bool) -> list[Row]:
    """Accuracies and rank correlations of every rule on every data set."""
    seeds, ranked = (2, 4) if quick else (5, 12)
    work = len(DATA) * (ranked + NETS * seeds * len(RULES))
    found = []
    with Progress(work, "nets trained", every=0) as progress:
        for data, suffix in DATA.items():
            steps = STEPS[data] // 4 if quick else STEPS[data]
            scores = measure(Bench(short(CONFIGS[data], steps)), seeds, ranked, progress)
            found += [row for rule in RULES for row in rule_rows(rule, suffix, scores)]
    return found


def short(config: SupernetTrainConfig, steps: int) -> SupernetTrainConfig:
    """A configuration with so many steps, scored at their end."""
    return replace(
        config,
        steps=steps,
        distill=DistillConfig(warmup=steps // 4, ramp=steps // 4),
        log_every=steps,
        score_every=steps,
        checkpoint_every=steps,
    )


def measure(bench: "Bench", seeds: int, ranked: int, progress: Progress) -> Scores:
    """What each rule reaches from each seed, and how it ranks the nets that are trained alone."""
    log = Log(cache_folder("benchmarks") / "supernet-samplers" / f"{bench.digest}.jsonl")
    nets = [random_arch(bench.space, generator(7, number)) for number in range(ranked)]
    alone = []
    for number, arch in enumerate(nets):
        (value,) = log(f"alone {number}", lambda arch=arch: [bench.alone(arch)])
        alone.append(value)
        progress.update(1, alone=value)
    scores: Scores = {rule: [] for rule in RULES}
    for rule in RULES:
        for seed in range(seeds):
            run = lambda rule=rule, seed=seed: bench.supernet(rule, seed, nets)  # noqa: E731
            *sizes, ours = log(f"{rule} {seed} {ranked}", run)
            found = dict(zip(SIZES.values(), sizes, strict=True))
            found["tau"] = float(stats.kendalltau(ours, alone).statistic)
            scores[rule].append(found)
            print(bench.base.name, rule, seed, found, flush=True)
            progress.update(NETS, **found)
    return scores


class Log:
    """Results of finished runs by name, in a JSON-lines file."""

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self.held: dict[str, Any] = dict(json.loads(line) for line in text.splitlines())
        print(f"{len(self.held)} finished runs in {path}", flush=True)

    def __call__(self, name: str, run: Callable[[], Any]) -> Any:
        """The result of a run, which is made if there is none."""
        if name not in self.held:
            self.held[name] = run()
            atomic_write(self.path, "".join(f"{json.dumps(row)}\n" for row in self.held.items()))
        return self.held[name]


class Bench:
    """Runs on one data set that share their compiled programs."""

    def __init__(self, base: SupernetTrainConfig):
        self.base, self.folder = base, Path(tempfile.mkdtemp())
        self.source = open_source(base.data)
        self.trainer = self.make("sandwich", 0)
        self.space = self.trainer.space
        self.test = self.trainer.scorer("test")

    @property
    def digest(self) -> str:
        """Of all that results depend on, but for the code."""
        settings = json.dumps([asdict(self.base), self.source.fingerprint, jax.__version__])
        return f"{self.base.name}-{hashlib.blake2b(settings.encode(), digest_size=6).hexdigest()}"

    def make(self, rule: str, seed: int) -> Trainer:
        """A run that uses the first one's programs."""
        sampler = SamplerConfig(rule, NETS, DIGITS_BANKS)
        config = replace(self.base, sampler=sampler, seed=seed)
        made = Trainer(config, self.folder / f"{rule}-{seed}", self.source)
        if hasattr(self, "trainer"):
            made.learner, made.stepper = self.trainer.learner, self.trainer.stepper
        return made

    def supernet(self, rule: str, seed: int, nets: Sequence[Arch]) -> list[Any]:
        """Test accuracies of a supernet's smallest, median and largest net, and of `nets`."""
        run = self.make(rule, seed)
        with MetricsWriter(run.run_dir) as writer:
            state = run.learn(*run.begin(), writer)
        extremes = run.extremes(self.test, state.params)
        return [*(extremes[name] for name in SIZES), self.test.accuracies(state.params, nets)]

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


def rule_rows(rule: str, suffix: str, scores: Scores) -> list[Row]:
    """A rule's rows, against uniform sampling; intervals are printed."""
    case, base, found = f"sampler-{rule}{suffix}", f"sampler-uniform{suffix}", []
    for name in ("min", "median", "max", "tau"):
        samples = {
            f"sampler-{r}{suffix}": [score[name] for score in scores[r]] for r in (rule, "uniform")
        }
        metric = "kendall_tau" if name == "tau" else f"{name}_accuracy"
        values = np.asarray(samples[case])
        reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        print(f"{case}/{metric}: {values.mean():.3f} +- {reach:.3f} (95 %, t)", flush=True)
        if name == "tau" or rule == "uniform":
            middle, n = float(np.median(values)), len(values)
            where, version = device_name(), jax.__version__
            found.append(Row(BENCH, case, metric, middle, "", None, None, n, where, version))
        else:
            found += compare(BENCH, metric, "", samples, case, [base])[:1]
    return found
