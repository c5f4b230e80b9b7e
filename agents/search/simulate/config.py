"""What is simulated: costs and agents. Imports no JAX."""

from collections.abc import Callable
from dataclasses import dataclass

from loomax.agents.search.speculate.config import HIT_RATES
from loomax.agents.search.speculate.order import OrderConfig

# (requests that decode, prompt tokens that are prefilled) -> seconds of one engine step
StepSeconds = Callable[[int, int], float]


@dataclass(frozen=True)
class EngineConfig:
    """An engine with continuous batching.

    Args:
        step_s: the cost of a step, such as fitted to an engine's log.
        slots: requests that run at once.
        chunk: prompt tokens that a step prefills at most.
        prefix_cache: whether a turn prefills only what is new in it.
        fork: whether a draft shares the pages of its request; else it prefills what the prefix
            cache does not have.
        cache_tokens: that the KV cache holds; None is enough for everybody.
        order: of the queue.
    """

    step_s: StepSeconds
    slots: int = 32
    chunk: int = 512
    prefix_cache: bool = True
    fork: bool = True
    cache_tokens: int | None = None
    order: OrderConfig = OrderConfig()

    def __post_init__(self):
        if self.slots < 1 or self.chunk < 1:
            raise ValueError(f"slots {self.slots} and chunk {self.chunk} must be at least 1")
        if not self.step_s(1, 0) > 0:
            raise ValueError(f"step_s(1, 0) is {self.step_s(1, 0)}; a step takes more than 0 s")
        if self.cache_tokens is not None and self.cache_tokens < 1:
            raise ValueError(f"cache_tokens is {self.cache_tokens}; it must be at least 1")


@dataclass(frozen=True)
class AgentConfig:
    """Agents that search a few times and answer. Lengths are tokens.

    Args:
        steps: searches, drawn evenly from these bounds.
        tool_s, tool_sigma: median and log-deviation of a tool's seconds.
        hit_rates: chance that one draft is right, by step; the last one goes on.
        accept_hit, accept_miss: chance that the score of a right or wrong draft passes.
    """

    steps: tuple[int, int] = (2, 6)
    prompt: int = 200
    reasoning: int = 150
    action: int = 10
    observation: int = 250
    answer: int = 20
    tool_s: float = 1.5
    tool_sigma: float = 0.4
    hit_rates: tuple[float, ...] = HIT_RATES
    accept_hit: float = 0.8
    accept_miss: float = 0.15

    def __post_init__(self):
        if not 1 <= self.steps[0] <= self.steps[1]:
            raise ValueError(f"steps is {self.steps}; give two bounds, from 1 on, in order")
        # Tags and a name.
        for name, least in (("reasoning", 2), ("action", 3), ("answer", 3)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it needs {least} tokens")
        if self.prompt < 1 or self.observation < 1:
            raise ValueError(
                f"prompt {self.prompt} and observation {self.observation} must be at least 1"
            )
        chances = {"accept_hit": self.accept_hit, "accept_miss": self.accept_miss}
        chances |= {"hit_rates": min(self.hit_rates), "hit_rates ": max(self.hit_rates)}
        for name, value in chances.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name.strip()} holds {value}; a chance is 0 to 1")
        if self.tool_s < 0 or self.tool_sigma < 0:
            raise ValueError(f"tool_s {self.tool_s} and tool_sigma {self.tool_sigma} must be >= 0")
