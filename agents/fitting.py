"""`memory.fit` for configurations: which program, which forms of it, and the form put back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jax.sharding import Mesh

from loomax.agents.pretrain import forms as pretrain
from loomax.agents.pretrain.config import PretrainConfig
from loomax.agents.rl import forms as rl
from loomax.agents.rl.aot import PROGRAMS
from loomax.agents.rl.config import TrainConfig
from loomax.agents.rl.policy_config import PolicyConfig
from loomax.memory.forms.fit import finish
from loomax.memory.forms.form import Form
from loomax.memory.forms.plan import FitPlan
from loomax.memory.forms.search import Build, Search, Try
from loomax.models.flow_vla.config import RESIDUALS as VLA_RESIDUALS
from loomax.models.lm.config import RESIDUALS as LM_RESIDUALS
from loomax.runtime.compile import cache_folder
from loomax.runtime.config import unknown
from loomax.runtime.target import Target

Config = PretrainConfig | TrainConfig
# More layers, one after another, take the compiler minutes a form.
MOST_UNROLLED = 12


@dataclass(frozen=True)
class Subject:
    """A configuration's program that can be compiled in several forms.

    Args:
        title: what it is.
        build: the program in a form.
        given: the form that the configuration asks for.
        bases, parts, names: what there is to choose from; see `memory.forms.search.Search`.
        rows: of the batch that can be resized: rows of tokens, or environments.
        unit: rows come in multiples of this, for each microbatch.
        apply: the configuration in a form.
    """

    title: str
    build: Build
    given: Form
    bases: Sequence[Form]
    parts: Sequence[int]
    names: Sequence[str]
    rows: int
    unit: int
    apply: Callable[[Form], Config]


def subject_of(config: Config, program: str | None, mesh: Mesh) -> Subject:
    """What there is to search in a configuration.

    Args:
        program: of reinforcement learning: "sft", "update" or "iteration" (default).

    Raises:
        ValueError: there is no such program, or nothing to choose.
    """
    if isinstance(config, PretrainConfig):
        if program not in (None, "step"):
            raise ValueError(unknown("program", program, ["step"]))
        config.validate(mesh.size)
        return _pretraining(config, mesh)
    if not isinstance(config.policy, PolicyConfig):
        raise ValueError(f"config {config.name!r} has no flow VLA: there is no form to search")
    name = program or "iteration"
    if name not in PROGRAMS:
        raise ValueError(unknown("program", name, PROGRAMS))
    config.validate(mesh.size)
    return Subject(
        title=f"{config.name}, {name}",
        build=lambda form, envs, mesh: rl.train_program(config, name, form, envs, mesh),
        given=rl.form_of(config),
        bases=(Form(contexts="kept"), Form(contexts="again")),
        parts=(),
        names=VLA_RESIDUALS,
        rows=config.rl.rollout.envs,
        unit=mesh.size,
        apply=lambda form: rl.in_form(config, form),
    )


def _pretraining(config: PretrainConfig, mesh: Mesh) -> Subject:
    number = pretrain.largest_stage(config)
    stage = config.stages[number]
    depth = config.model.self_layers + config.model.cross_layers
    return Subject(
        title=f"{config.name}, a step of {stage.batch} rows of {stage.length} tokens",
        build=lambda form, rows, mesh: pretrain.step_program(config, number, form, rows, mesh),
        given=pretrain.form_of(config, number),
        bases=[Form(layers=name) for name in ("scan", "list")[: 1 + (depth <= MOST_UNROLLED)]],
        parts=pretrain.parts_of(config, number, mesh),
        names=LM_RESIDUALS,
        rows=stage.batch,
        unit=mesh.size,
        apply=lambda form: pretrain.in_form(config, form),
    )


def fit_config(
    subject: Subject,
    target: Target,
    budget: int,
    *,
    largest: bool = False,
    levers: bool = True,
    most: int = 24,
    tell: Callable[[Try], None] | None = None,
) -> FitPlan:
    """As `memory.fit`, for a configuration.

    Args:
        levers: try the compiler's own, too, which a configuration cannot ask for.

    Raises:
        DoesNotFitError: no form fits.
    """
    search = search_config(subject, target, budget, tell)
    search.most, search.with_levers = most, levers
    search.run(subject.parts)
    if largest and not search.interrupted:
        search.ask(subject.given)
    rows = subject.rows if largest else None
    return finish(search, rows=rows, largest=largest, unit=subject.unit)


def search_config(
    subject: Subject, target: Target, budget: int, tell: Callable[[Try], None] | None = None
) -> Search:
    """The search of `fit_config` before its first compilation."""
    return Search(
        subject.build,
        target,
        budget,
        names=subject.names,
        bases=subject.bases,
        cache=cache_folder("fit"),
        tell=tell,
    )
