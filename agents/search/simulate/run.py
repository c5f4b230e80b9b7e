"""Agents that arrive at random, simulated to the end. Every figure from here is a SIMULATION."""

import asyncio
from dataclasses import dataclass

import numpy as np

from loomax.agents.search.actions.clock import run_virtual
from loomax.agents.search.simulate.agent import Agent, Search, draw_searches
from loomax.agents.search.simulate.config import AgentConfig, EngineConfig, Policy
from loomax.agents.search.simulate.engine import SimulatedEngine

SOURCE = "simulation"


@dataclass(frozen=True)
class Report:
    """What a policy came to. Times are virtual seconds.

    Args:
        tool_calls, decoded: of an agent, on average; drafts included.
        throughput: agents per second, from the first arrival to the last end.
    """

    policy: str
    latency_s: float
    latency_p50_s: float
    latency_p95_s: float
    tool_calls: float
    decoded: float
    throughput: float
    source: str = SOURCE


def simulate(
    engine: EngineConfig,
    agents: AgentConfig,
    policy: Policy,
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
    drawn = [draw_searches(agents, rng) for _ in range(count)]
    gaps = rng.exponential(size=count)
    waits = None if np.isinf(per_s) else (np.cumsum(gaps) / per_s).tolist()
    return run_virtual(_run(engine, agents, policy, drawn, waits))


async def _run(
    engine: EngineConfig,
    agents: AgentConfig,
    policy: Policy,
    drawn: list[tuple[Search, ...]],
    waits: list[float] | None,
) -> Report:
    loop = asyncio.get_running_loop()
    simulated = SimulatedEngine(engine)
    stepping = asyncio.create_task(simulated.run())
    crowd = [Agent(simulated, agents, policy, searches) for searches in drawn]

    async def live(agent: Agent, wait: float) -> float:
        await asyncio.sleep(wait)
        start = loop.time()
        await agent.run()
        return loop.time() - start

    if waits is None:
        seconds = [await live(agent, 0.0) for agent in crowd]
    else:
        lives = [live(agent, wait) for agent, wait in zip(crowd, waits, strict=True)]
        seconds = await asyncio.gather(*lives)
    stepping.cancel()
    return Report(
        policy=policy.name,
        latency_s=float(np.mean(seconds)),
        latency_p50_s=float(np.percentile(seconds, 50)),
        latency_p95_s=float(np.percentile(seconds, 95)),
        tool_calls=float(np.mean([agent.tool_calls for agent in crowd])),
        decoded=simulated.decoded / len(crowd),
        throughput=len(crowd) / (loop.time() - (waits[0] if waits else 0.0)),
    )
