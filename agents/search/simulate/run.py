"""Agents that arrive at random, simulated to the end. Every figure from here is a SIMULATION.

The loop, its phases, the drafts, the action server and the scheduler are those that serve; only
the model, the engine's time and the tool's are simulated.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loomax.agents.search.actions.call import Tool
from loomax.agents.search.actions.clock import run_virtual
from loomax.agents.search.actions.config import BudgetConfig, ToolConfig
from loomax.agents.search.actions.search_tool import hits
from loomax.agents.search.actions.server import ActionServer
from loomax.agents.search.grammar.search_r1 import SearchR1Grammar
from loomax.agents.search.loop.agent import Run, SearchAgent
from loomax.agents.search.loop.config import LoopConfig
from loomax.agents.search.loop.session import Parts
from loomax.agents.search.retrieval.document import Document, Hit
from loomax.agents.search.simulate.config import AgentConfig, EngineConfig
from loomax.agents.search.simulate.engine import SimulatedEngine
from loomax.agents.search.simulate.script import Crowd, draw
from loomax.agents.search.speculate.config import SpeculationConfig
from loomax.agents.search.speculate.scheduler import Speculator
from loomax.agents.search.trace.statistics import statistics

SOURCE = "simulation"
FOREVER_S = 1e9
UNLIMITED = 1_000_000


@dataclass(frozen=True)
class Report:
    """What a policy came to. Times are virtual seconds.

    Args:
        tool_calls, decoded, wasted: of an agent, on average; drafts included.
        throughput: agents per second, from the first arrival to the last end.
        direct_hit: by step, the share of first drafts that were the reasoned action.
    """

    policy: str
    latency_s: float
    latency_p50_s: float
    latency_p95_s: float
    tool_calls: float
    decoded: float
    wasted: float
    throughput: float
    direct_hit: Mapping[int, float]
    source: str = SOURCE


def simulate(
    engine: EngineConfig,
    agents: AgentConfig,
    policy: SpeculationConfig,
    *,
    count: int,
    per_s: float,
    seed: int = 0,
) -> Report:
    """`count` agents that arrive as a Poisson process; the same ones for every policy.

    Args:
        per_s: arrivals per second; inf lets each begin when the one before has ended.

    Raises:
        ValueError: no agent ever arrives.
    """
    if count < 1 or not per_s > 0:
        raise ValueError(f"{count} agents at {per_s} per second: both must be above 0")
    rng = np.random.default_rng(seed)
    crowd = Crowd(agents, [draw(agents, rng) for _ in range(count)])
    gaps = rng.exponential(size=count)
    waits = None if np.isinf(per_s) else (np.cumsum(gaps) / per_s).tolist()
    return run_virtual(_run(engine, agents, policy, crowd, count, waits))


async def _run(
    engine: EngineConfig,
    agents: AgentConfig,
    policy: SpeculationConfig,
    crowd: Crowd,
    count: int,
    waits: list[float] | None,
) -> Report:
    loop = asyncio.get_running_loop()
    simulated = SimulatedEngine(engine, crowd.reply)
    stepping = asyncio.create_task(simulated.run())
    async with ActionServer([_tool(crowd)], cached=UNLIMITED) as server:
        parts = Parts(
            simulated,
            server,
            SearchR1Grammar(),
            crowd,
            _limits(agents),
            Speculator(simulated, policy),
        )

        async def live(number: int, wait: float) -> Run:
            await asyncio.sleep(wait)
            return await SearchAgent(parts).run(str(number), name=str(number))

        if waits is None:
            runs = [await live(number, 0.0) for number in range(count)]
        else:
            runs = await asyncio.gather(*map(live, range(count), waits))
        started = server.log.count("attempt")
    stepping.cancel()
    whole = loop.time() - (waits[0] if waits else 0.0)
    return _report(policy.name, runs, started, simulated.decoded, whole)


def _report(policy: str, runs: Sequence[Run], calls: int, decoded: int, whole_s: float) -> Report:
    unanswered = [run for run in runs if run.end != "answered"]
    if unanswered:
        raise RuntimeError(
            f"a simulated agent ended by {unanswered[0].end}: {unanswered[0].detail}"
        )
    seconds = [run.seconds for run in runs]
    figures = statistics([run.events for run in runs])
    return Report(
        policy=policy,
        latency_s=float(np.mean(seconds)),
        latency_p50_s=float(np.percentile(seconds, 50)),
        latency_p95_s=float(np.percentile(seconds, 95)),
        tool_calls=calls / len(runs),
        decoded=decoded / len(runs),
        wasted=figures.wasted,
        throughput=len(runs) / whole_s,
        direct_hit=figures.direct_hit,
    )


def _tool(crowd: Crowd) -> Tool:
    async def run(arguments: Mapping[str, Any]) -> tuple[Hit, ...]:
        query = arguments["query"]
        await asyncio.sleep(crowd.seconds(query))
        return (Hit(Document(query, query, ""), 1.0),)

    config = ToolConfig(timeout_s=FOREVER_S, deadline_s=FOREVER_S, ttl_s=FOREVER_S)
    return Tool("search", run, "read_only", config, check=hits)


def _limits(agents: AgentConfig) -> LoopConfig:
    return LoopConfig(
        steps=UNLIMITED,
        context=UNLIMITED,
        turn=agents.reasoning + max(agents.action, agents.answer),
        draft=agents.action,
        observation=agents.observation,
        deadline_s=FOREVER_S,
        budget=BudgetConfig(UNLIMITED, UNLIMITED),
    )
