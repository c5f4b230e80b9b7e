"""loomax eval: score a run's policy on held-out seeds, or its language model on documents."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from loomax.cli.runs import find_run
from loomax.runtime.config import parse_options
from loomax.runtime.options import AtLeastOne, Bound, NotNegative, Source

DESCRIPTION = """Scores the newest policy of a run on seeds that it was not trained on.
(`loomax eval perplexity --help`: a language model, on documents;
`loomax eval needle --help`: what it finds in long prompts.)"""
LM_DESCRIPTION = "Measures the perplexity of a run's newest language model."
NEEDLE_DESCRIPTION = """Hides facts in long text and asks a run's newest language model for one.
Ends with the share that it found at each length, every cell as JSON, and a heat map."""


@dataclass(frozen=True)
class Options:
    """What is scored, and how."""

    run: Positional[str]
    """name of a run, or its folder"""
    episodes: AtLeastOne = 512
    """number of held-out episodes"""
    seed: int | None = None
    """from which all of them are drawn; default: the run's own eval.seed, which gives the episodes
    that training reports at its end. No seed gives an episode that a run was trained on."""
    runs: str = "runs"
    """where runs live"""


@dataclass(frozen=True)
class LMOptions:
    """What is scored, and on what."""

    run: Positional[str]
    """name of a run, or its folder"""
    data: Source = ""
    """a file or folder, all of which is scored; default: the documents that the run held out"""
    files: str = "*"
    """which files of that folder, as a glob pattern"""
    rows: NotNegative = 0
    """rows at most; 0 takes all"""
    runs: str = "runs"
    """where runs live"""


@dataclass(frozen=True)
class NeedleOptions:
    """What is asked, and in which hay."""

    run: Positional[str]
    """name of a run, or its folder"""
    lengths: tuple[AtLeastOne, ...] = ()
    """tokens of the prompts; default: 1, 2, 4 and 8 times the longest training rows"""
    depths: AtLeastOne = 10
    """places of the fact that is asked for, from the beginning of the hay to its end"""
    needles: AtLeastOne = 1
    """facts in a prompt, one of which is asked for"""
    trials: AtLeastOne = 16
    """prompts of each length and depth"""
    block: AtLeastOne = 512
    """tokens that are read at once"""
    seed: int = 0
    """of the facts and of where the hay begins"""
    data: Source = ""
    """a file or folder of hay; default: the documents that the run held out"""
    files: str = "*"
    """which files of that folder, as a glob pattern"""
    scaling: Literal["none", "pi", "ntk", "yarn"] = "none"
    """how rotary positions are stretched beyond those of the training"""
    factor: Annotated[float, Bound(1)] = 1.0
    """by how much"""
    runs: str = "runs"
    """where runs live"""


def run(argv: Sequence[str], prog: str) -> None:
    if argv and argv[0] in VERBS:
        return VERBS[argv[0]](argv[1:], f"{prog} {argv[0]}")
    options = parse_options(Options, argv, prog, DESCRIPTION)
    path = find_run(options.run, Path(options.runs), ["policy"])

    from loomax.runtime.compile import setup_cpu

    setup_cpu()

    from loomax.agents.rl.scoring import evaluate_checkpoint

    evaluate_checkpoint(path, options.episodes, options.seed)


def run_perplexity(argv: Sequence[str], prog: str) -> None:
    """loomax eval perplexity RUN."""
    options = parse_options(LMOptions, argv, prog, LM_DESCRIPTION)
    path = find_run(options.run, Path(options.runs), ["language model"])

    from loomax.runtime.compile import setup_cpu

    setup_cpu()

    from loomax.agents.pretrain.evaluate import evaluate_run

    evaluate_run(path, options.data, options.files, options.rows)


def run_needle(argv: Sequence[str], prog: str) -> None:
    """loomax eval needle RUN."""
    options = parse_options(NeedleOptions, argv, prog, NEEDLE_DESCRIPTION)
    path = find_run(options.run, Path(options.runs), ["language model"])

    from loomax.runtime.compile import setup_cpu

    setup_cpu()

    from loomax.agents.pretrain.evaluate import evaluate_needles
    from loomax.agents.pretrain.needle_grid import GridConfig

    names = ("lengths", "depths", "needles", "trials", "block", "seed")
    grid = GridConfig(**{name: getattr(options, name) for name in names})
    evaluate_needles(
        path, grid, options.data, options.files, scaling=options.scaling, factor=options.factor
    )


VERBS = {"perplexity": run_perplexity, "needle": run_needle}
