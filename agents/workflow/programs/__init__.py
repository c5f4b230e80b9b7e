"""Workflows in ordinary code, to be planned or just called."""
