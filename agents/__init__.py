"""Agents: reinforcement learning, workflows, inference engines and search."""
