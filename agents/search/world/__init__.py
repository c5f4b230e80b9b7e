"""The seeded multi-hop world: entities, documents, questions and expert trajectories."""
