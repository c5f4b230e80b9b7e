"""Sequence operations of the mixers, on plain arrays."""
