"""What simulated agents will write and how long their tools take: drawn before they start.

A model is replaced by a script, a function of the context, so policies meet the same agents.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loomax.agents.search.engine_protocol import Sampling
from loomax.agents.search.simulate.config import AgentConfig
from loomax.agents.search.speculate.config import MOST_DRAFTS

TAGS = ("<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>", "x")
THINK, THOUGHT, SEARCH, SEARCHED, ANSWER, ANSWERED, FILLER = range(len(TAGS))
# Searches that a wrong guess may add.
SPARE = 8
# What a draft that does not pass has for its least sure token.
UNSURE = float(np.log(0.01))


@dataclass(frozen=True)
class Search:
    """One search of an agent.

    Args:
        tool_s: seconds that it takes, and a wrong one in its place.
        luck: of each draft; it is right if this is below the chance that it is.
        score_luck: the score passes if this is below the chance that it does.
    """

    tool_s: float
    luck: tuple[float, ...]
    score_luck: float


def draw(config: AgentConfig, rng: np.random.Generator) -> tuple[int, tuple[Search, ...]]:
    """How many searches an agent needs, and what happens in each one, the spare ones too."""
    count = int(rng.integers(config.steps[0], config.steps[1] + 1))
    most = count + SPARE
    noise = np.exp(config.tool_sigma * rng.standard_normal(most))
    luck, score_luck = rng.random((most, MOST_DRAFTS)).tolist(), rng.random(most).tolist()
    searches = (
        Search(config.tool_s * float(noise[n]), tuple(luck[n]), score_luck[n]) for n in range(most)
    )
    return count, tuple(searches)


class Crowd:
    """All agents of a simulation: the script, the tool and the codec.

    Names of searches are numbers: a right one for each step of an agent, wrong ones by attempt.
    """

    opening, closing, question = (SEARCH,), (), ()

    def __init__(self, config: AgentConfig, drawn: Sequence[tuple[int, tuple[Search, ...]]]):
        self._config, self._drawn = config, drawn
        self._right: list[frozenset[int]] = []
        self._seconds: dict[int, float] = {}
        self._names: list[list[list[int]]] = []
        for count, searches in drawn:
            rows = [self._row(search.tool_s) for search in searches]
            self._names.append(rows)
            self._right.append(frozenset(row[0] for row in rows[:count]))

    def _row(self, seconds: float) -> list[int]:
        """A right name and a wrong one for each draft."""
        first = len(TAGS) + len(self._seconds)
        names = list(range(first, first + 1 + MOST_DRAFTS))
        self._seconds |= dict.fromkeys(names, seconds)
        return names

    def seconds(self, query: str) -> float:
        """How long a search takes."""
        return self._seconds[int(query.split()[0])]

    def reply(
        self, tokens: tuple[int, ...], sampling: Sampling
    ) -> tuple[Sequence[int], Sequence[float]]:
        """What an agent writes after `tokens`; see `Script`."""
        agent, config = tokens[0], self._config
        count, searches = self._drawn[agent]
        # The number of the agent, at the front, is no name.
        step = len(self._right[agent] & set(tokens[1:]))
        attempt = min(tokens.count(SEARCHED), len(searches) - 1)
        if tokens[-1] == SEARCH:
            name, logprob = self._draft(agent, step, attempt, sampling.sample)
            written = self._block(SEARCH, name, config.action)[1:]
            return written, [logprob] * len(written)
        thought = (THINK, *(FILLER,) * (config.reasoning - 2), THOUGHT)
        if step < count:
            written = (*thought, *self._block(SEARCH, self._names[agent][step][0], config.action))
        else:
            written = (*thought, *self._block(ANSWER, FILLER, config.answer))
        return written, [0.0] * len(written)

    def _draft(self, agent: int, step: int, attempt: int, sample: int) -> tuple[int, float]:
        """The name that a draft searches for, and its least log-probability."""
        config, (count, searches) = self._config, self._drawn[agent]
        rate = config.hit_rates[min(step, len(config.hit_rates) - 1)]
        right = step < count and searches[attempt].luck[sample - 1] < rate
        accept = config.accept_hit if right else config.accept_miss
        name = self._names[agent][step][0] if right else self._names[agent][attempt][sample]
        return name, 0.0 if searches[attempt].score_luck < accept else UNSURE

    def _block(self, tag: int, name: int, length: int) -> tuple[int, ...]:
        return (tag, name, *(FILLER,) * (length - 3), tag + 1)

    def prompt(self, question: str) -> tuple[int, ...]:
        """See `Codec`; the question is the number of the agent."""
        return (int(question), *(FILLER,) * (self._config.prompt - 1))

    def observation(self, shown: Sequence[Any]) -> tuple[int, ...]:
        """See `Codec`; what was found plays no part."""
        return (FILLER,) * self._config.observation

    def score(self, token: int) -> float:
        """See `Codec`; there is no question for one."""
        return 0.0

    def reader(self) -> "Crowd":
        """See `Codec`."""
        return self

    def feed(self, tokens: Sequence[int]) -> Sequence[str]:
        """See `Reader`."""
        words = (TAGS[token] if token < len(TAGS) else str(token) for token in tokens)
        return ("".join(f"{word} " for word in words),)

    def finish(self) -> Sequence[str]:
        """See `Reader`."""
        return ()
