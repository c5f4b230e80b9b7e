"""Workflows of stages: profile, plan, simulate."""
