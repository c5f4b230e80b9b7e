"""Flax NNX modules and the pure functions on them."""
