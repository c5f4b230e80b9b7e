"""Simulated scenes, written as MJCF from code."""
