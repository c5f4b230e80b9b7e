"""What one request has spent."""

from loomax.agents.search.actions.config import BudgetConfig


class Budget:
    """Counts the calls of one request; speculative ones have an allowance of their own."""

    def __init__(self, config: BudgetConfig | None = None):
        self._config = config or BudgetConfig()
        self.calls = self.speculative = 0

    def spend(self, speculative: bool) -> str | None:
        """Counts a call, or says why there may be no more."""
        most = self._config.speculative if speculative else self._config.calls
        spent = self.speculative if speculative else self.calls
        kind = "speculative calls" if speculative else "calls"
        if spent >= most:
            return f"the request has spent its {most} {kind}"
        if speculative:
            self.speculative += 1
        else:
            self.calls += 1
        return None
