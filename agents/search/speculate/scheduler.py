"""Level 1: which requests speculate, and with how many drafts (SPAgent, arXiv 2511.20048, IV-A).

A gain is in seconds of latency, summed over the requests that it concerns.
"""

from collections import defaultdict

from loomax.agents.search.engine_protocol import Engine, Load
from loomax.agents.search.speculate.config import SpeculationConfig
from loomax.agents.search.speculate.cost import CostModel
from loomax.agents.search.speculate.hits import Average, HitModel

FIRST_TOOL_S = 1.0
FIRST_REASONING, FIRST_DRAFT = 100.0, 16.0


class Speculator:
    """What all agents on one engine have learnt together.

    Args:
        engine: whose step log is followed.
    """

    def __init__(self, engine: Engine, config: SpeculationConfig, hits: HitModel | None = None):
        self.config, self.cost, self.hits = config, CostModel(), hits or HitModel()
        self.tool_s: dict[str, Average] = defaultdict(lambda: Average(FIRST_TOOL_S))
        self.reasoning, self.draft = Average(FIRST_REASONING), Average(FIRST_DRAFT)
        self._engine = engine
        engine.watch(self.cost.add)

    def drafts(self, step: int, tool: str = "search") -> int:
        """How many drafts a verified step gets.

        Args:
            step: from 0.
            tool: that is likely to be called.
        """
        config = self.config
        if not config.adaptive:
            return config.drafts
        load = self._engine.load()
        share = max(1, int(config.draft_share * load.slots)) - load.drafts
        # Slots that nobody wants are no loss to anybody.
        free = load.slots - load.running - load.waiting - 1
        most = min(config.drafts, max(0, share, free))
        gains = [self.gain(count, step, tool, load) for count in range(most + 1)]
        return max(range(most + 1), key=gains.__getitem__)

    def gain(self, drafts: int, step: int, tool: str, load: Load) -> float:
        """What some drafts are expected to save, less what they cost everybody."""
        if not drafts:
            return 0.0
        busy = min(load.running + load.waiting + 1, load.slots)
        step_s = self.cost.seconds(busy)
        ahead = step_s * max(0.0, self.reasoning.value - self.draft.value)
        right = self.hits.rate(step)
        saved = (1 - (1 - right) ** drafts) * min(self.tool_s[tool].value, ahead)
        wasted = drafts * (1 - right) * self.config.call_price_s
        return saved - wasted - self._slower(drafts, busy, load)

    def unverified_pays(self, step: int) -> bool:
        """Whether a step without reasoning is worth its draft, which may be refused."""
        if not self.config.adaptive:
            return True
        return self.hits.rate(step) * self.reasoning.value > self.draft.value

    def _slower(self, drafts: int, busy: int, load: Load) -> float:
        """Seconds that the others lose: longer steps, and slots that they wait for."""
        step_s = self.cost.seconds(busy)
        longer = self.cost.seconds(min(busy + drafts, load.slots)) - step_s
        over = max(0, load.running + load.waiting + 1 + drafts - load.slots)
        return self.draft.value * (busy * longer + min(over, drafts) * step_s)
