"""Plans for the arena: the loop in a recorded log, and offsets for one round of it."""
