"""A small model that learns to search: supervised on expert trajectories of the invented world."""
