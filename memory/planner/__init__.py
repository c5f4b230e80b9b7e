"""Offsets for buffers with known lifetimes: dynamic storage allocation."""
