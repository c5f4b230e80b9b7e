"""A searcher that learns from its own runs: GRPO on the reward of exact match."""
