"""Exact match on unseen questions: the real loop, engine and retrieval."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from loomax.agents.search.actions.search_tool import search_tool
from loomax.agents.search.actions.server import ActionServer
from loomax.agents.search.ask import Brain
from loomax.agents.search.loop.agent import Run, SearchAgent
from loomax.agents.search.loop.session import Parts
from loomax.agents.search.retrieval.build import memory_index
from loomax.agents.search.retrieval.retriever import Retriever
from loomax.agents.search.speculate.config import SpeculationConfig
from loomax.agents.search.speculate.scheduler import Speculator
from loomax.agents.search.train.brain import Searcher, searcher_brain
from loomax.agents.search.train.config import ExamConfig
from loomax.agents.search.world.config import CHAINS, MIXTURE, Task
from loomax.agents.search.world.documents import INDEX, documents
from loomax.agents.search.world.questions import Question, draw_questions, text_of
from loomax.agents.search.world.score import exact_match
from loomax.agents.search.world.solve import solve
from loomax.agents.search.world.world import World

# Questions of the exam are those of this seed of the held-out split.
SEED = 1


@dataclass(frozen=True)
class Marks:
    """How some questions went.

    Args:
        exact_match: share of right answers, by kind of question too.
        unanswered: share of runs that ended otherwise.
    """

    questions: int
    exact_match: float
    by_task: dict[str, float]
    unanswered: float
    searches: float


def world_index(world: World) -> Retriever:
    """A bm25s index of the whole corpus, in memory."""
    return memory_index(documents(world), INDEX)


async def answer_all(
    brain: Brain,
    retriever: Retriever,
    asked: Sequence[str],
    *,
    at_once: int,
    k: int = 1,
    seed: int = 0,
    speculation: SpeculationConfig | None = None,
) -> list[Run]:
    """Runs an agent for every question, without delays.

    Args:
        at_once: agents that run at the same time.
        k: documents of a search.
        seed: of the first run's sampling; the others count up from it.
    """
    gate = asyncio.Semaphore(at_once)
    async with ActionServer([search_tool(retriever, k=k, inline=True)]) as server:
        speculator = Speculator(brain.engine, speculation) if speculation else None
        agent = SearchAgent(
            Parts(brain.engine, server, brain.grammar, brain.codec, brain.limits, speculator)
        )

        async def one(number: int, question: str) -> Run:
            async with gate:
                return await agent.run(question, name=str(number), seed=seed + number)

        return await asyncio.gather(*map(one, range(len(asked)), asked))


def right(world: World, question: Question, run: Run) -> bool:
    """Whether a run gave the answer."""
    return exact_match(run.answer, [world.name(solve(world, question).answer.entity)])


def name_of(question: Question) -> str:
    """The name of its task, such as largest-3."""
    return Task(question.kind, len(question.relations), question.members).name


def mark(world: World, questions: Sequence[Question], runs: Sequence[Run]) -> Marks:
    """The marks of some runs."""
    by_task: dict[str, list[bool]] = {}
    for question, run in zip(questions, runs, strict=True):
        by_task.setdefault(name_of(question), []).append(right(world, question, run))
    hits = [hit for each in by_task.values() for hit in each]
    return Marks(
        questions=len(runs),
        exact_match=sum(hits) / len(hits),
        by_task={name: sum(each) / len(each) for name, each in sorted(by_task.items())},
        unanswered=sum(run.answer is None for run in runs) / len(runs),
        searches=sum(run.steps for run in runs) / len(runs),
    )


def examine(searcher: Searcher, world: World, exam: ExamConfig) -> dict[str, Marks]:
    """Marks of the chains and of the mixture, by greedy decoding without speculation."""
    parts = {"chains": (CHAINS, exam.chains), "mixture": (MIXTURE, exam.mixture)}
    papers = {
        name: draw_questions(world, count, split="held_out", seed=SEED, tasks=tasks)
        for name, (tasks, count) in parts.items()
        if count
    }

    async def sit() -> dict[str, Marks]:
        found, retriever = {}, world_index(world)
        async with searcher_brain(searcher, slots=exam.slots) as brain:
            for name, questions in papers.items():
                asked = [text_of(world, question) for question in questions]
                runs = await answer_all(
                    brain, retriever, asked, at_once=exam.slots, k=exam.documents
                )
                found[name] = mark(world, questions, runs)
        return found

    return asyncio.run(sit()) if papers else {}
