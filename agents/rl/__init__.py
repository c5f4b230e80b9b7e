"""Reinforcement learning of flow policies."""
