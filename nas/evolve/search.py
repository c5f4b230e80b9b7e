"""NSGA-II under a latency constraint, and random search with the same budget. Imports no JAX.

Source: Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002. A network is judged
once, and the constraint is kept by construction, so nobody has to be penalised.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loomax.nas.evolve.candidate import Candidate, front, objectives
from loomax.nas.evolve.children import Priced, children, drawn
from loomax.nas.evolve.config import EvolveConfig
from loomax.nas.evolve.constraint import Constraint
from loomax.nas.evolve.exam import Exam, Scores
from loomax.nas.evolve.pareto import best_first, hypervolume
from loomax.runtime.progress import Progress


@dataclass(frozen=True)
class Outcome:
    """What a search ends with.

    Args:
        candidates: all that were judged, in order.
        front: those that no other dominates on the search split, from fast to slow.
        validation: their scores on the validation split.
        winner: the best one by the mean of both; of equal ones the fastest.
        test: its accuracy on the test split.
    """

    candidates: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    validation: tuple[float, ...]
    winner: Candidate
    test: float


def evolve(
    constraint: Constraint, exam: Exam, config: EvolveConfig, progress: bool = False
) -> list[Candidate]:
    """Judges up to `config.candidates` networks, fewer where the window has no more.

    The first generation is drawn; each later one has as many children as the population, and
    the best of both, by rank and crowding, are the next population.
    """
    population: list[Candidate] = []

    def propose(seen: dict, generation: int, count: int) -> list[Priced]:
        if not population:
            return drawn(constraint, seen, count, config.tries, config.seed, generation)
        return children(constraint, population, seen, count, config, generation)

    def keep(new: Sequence[Candidate]) -> None:
        both = [*population, *new]
        order = best_first(objectives(both))[: config.population]
        population[:] = [both[place] for place in order.tolist()]

    return _judge_all(constraint, exam, config, propose, keep, "evolution", progress)


def random_search(
    constraint: Constraint, exam: Exam, config: EvolveConfig, progress: bool = False
) -> list[Candidate]:
    """Judges up to `config.candidates` networks of the window, all equally likely."""

    def propose(seen: dict, generation: int, count: int) -> list[Priced]:
        return drawn(constraint, seen, count, config.tries, config.seed, generation)

    return _judge_all(
        constraint, exam, config, propose, lambda new: None, "random search", progress
    )


def _judge_all(
    constraint: Constraint,
    exam: Exam,
    config: EvolveConfig,
    propose: Callable[[dict, int, int], list[Priced]],
    keep: Callable[[Sequence[Candidate]], None],
    title: str,
    progress: bool,
) -> list[Candidate]:
    seen: dict = {}
    points: list[tuple[float, float]] = []
    with Progress(config.candidates, title, enabled=progress) as bar:
        generation = 0
        while len(seen) < config.candidates:
            count = min(config.population, config.candidates - len(seen))
            proposed = propose(seen, generation, count)
            if not proposed:
                break
            scores = exam.search([arch for arch, _ in proposed])
            new = [
                Candidate(arch, latency, score)
                for (arch, latency), score in zip(proposed, scores, strict=True)
            ]
            keep(new)
            seen |= {candidate.arch: candidate for candidate in new}
            points += [(1 - c.score, c.latency / constraint.high) for c in new]
            best = max(candidate.score for candidate in seen.values())
            bar.update(len(new), best=best, hypervolume=hypervolume(points, (1.0, 1.0)))
            generation += 1
    return list(seen.values())


def conclude(
    exam: Exam,
    candidates: Sequence[Candidate],
    finish: Callable[[Candidate], Scores | None] | None = None,
) -> Outcome:
    """Validates the front of all candidates, picks the winner, and tests it.

    Args:
        finish: what is done to the winner before its test; gives the accuracy of the result, or
            None where the network stays as it is.
    """
    best = front(candidates)
    validation = exam.validate([candidate.arch for candidate in best])
    means = [(c.score + other) / 2 for c, other in zip(best, validation, strict=True)]
    place = max(range(len(best)), key=lambda i: (means[i], -best[i].latency))
    winner = best[place]
    test = exam.test(winner.arch, finish(winner) if finish else None)
    return Outcome(tuple(candidates), tuple(best), tuple(validation), winner, test)
