"""How a model writes actions and reads observations."""
