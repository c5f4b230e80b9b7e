"""Vectorised worlds that agents act in."""
