"""The search agent: a model and tools in turns."""
