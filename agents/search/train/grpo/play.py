"""A step's rollouts: the real agent, engine and retrieval on questions of the training split."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from loomax.agents.search.loop.agent import Run
from loomax.agents.search.retrieval.retriever import Retriever
from loomax.agents.search.train.brain import Searcher, searcher_brain
from loomax.agents.search.train.exam import answer_all, right
from loomax.agents.search.train.grpo.config import COLUMNS, SearcherGRPOConfig
from loomax.agents.search.train.grpo.learner import Rollouts
from loomax.agents.search.world.questions import draw_questions, text_of
from loomax.agents.search.world.world import World
from loomax.models.tokenizer.bpe import PAD

# Ends that are the model's own doing; any other is a fault of the machine, and teaches nothing.
OWN = ("answered", "faults", "steps", "context")
DEADLINE_S = 600.0


@dataclass(frozen=True)
class Game:
    """The rollouts of one step.

    Args:
        metrics: means over the runs.
        tokens: that the model wrote.
    """

    rollouts: Rollouts
    metrics: dict[str, float]
    tokens: int


def play(
    config: SearcherGRPOConfig, searcher: Searcher, world: World, retriever: Retriever, step: int
) -> Game:
    """Asks a step's questions; runs are sampled at temperature 1, the policy that is trained.

    Raises:
        RuntimeError: see `check_ends`.
    """
    seed, first = np.random.SeedSequence([config.seed, step]).generate_state(2).tolist()
    drawn = draw_questions(
        world, config.play.questions, split="train", seed=seed, tasks=config.play.tasks
    )
    questions = [question for question in drawn for _ in range(config.group.size)]
    asked, slots = [text_of(world, question) for question in questions], config.play.slots

    async def main() -> list[Run]:
        # A fresh engine: what another one has cached is of other parameters.
        async with searcher_brain(searcher, slots=slots) as brain:
            limits = replace(brain.limits, temperature=1.0, deadline_s=DEADLINE_S)
            brain = replace(brain, limits=limits)
            k = config.play.documents
            return await answer_all(brain, retriever, asked, at_once=slots, k=k, seed=first)

    runs = asyncio.run(main())
    check_ends(runs)
    hits = [right(world, *pair) for pair in zip(questions, runs, strict=True)]
    return game(runs, hits, config.group.size, config.play.form)


def check_ends(runs: Sequence[Run]) -> None:
    """Raises RuntimeError for a run that ended by no doing of the model."""
    for run in runs:
        if run.end not in OWN:
            raise RuntimeError(f"a run of the agent ended by {run.end}: {run.detail}")


def game(runs: Sequence[Run], hits: Sequence[bool], group: int, form: float) -> Game:
    """Runs as rollouts, with the share of groups that can teach something among the metrics."""
    reward = np.array([reward_of(run, hit, form) for run, hit in zip(runs, hits, strict=True)])
    rollouts = rows_of(runs, reward)
    spread = np.ptp(reward.reshape(-1, group), axis=1) > 0
    written = int(rollouts.written.sum())
    metrics = {
        "reward": reward.mean(),
        "exact_match": np.mean(hits),
        "well_formed": np.mean([well_formed(run) for run in runs]),
        "searches": np.mean([run.steps for run in runs]),
        "written_tokens": written / len(runs),
        "mixed_groups": spread.mean(),
    }
    return Game(rollouts, {name: float(value) for name, value in metrics.items()}, written)


def reward_of(run: Run, hit: bool, form: float) -> float:
    """1 for a right answer, 0 for another; `form` nearer to the other where the form says so."""
    return abs(float(hit) - form * (hit != well_formed(run)))


def well_formed(run: Run) -> bool:
    """Whether a run ended with an answer and had no turn without an action."""
    return run.end == "answered" and all(event.kind != "fault" for event in run.events)


def rows_of(runs: Sequence[Run], reward: np.ndarray) -> Rollouts:
    """Transcripts as rows of one length."""
    longest = max(len(run.transcript) for run in runs)
    shape = (len(runs), -(-(longest - 1) // COLUMNS) * COLUMNS + 1)
    tokens, written = np.full(shape, PAD, np.int32), np.zeros(shape, bool)
    for row, run in enumerate(runs):
        length = len(run.transcript)
        tokens[row, :length], written[row, :length] = run.transcript.tokens, run.transcript.written
    return Rollouts(tokens, written, reward.astype(np.float32))
