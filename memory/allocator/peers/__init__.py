"""Other allocators, restated from their documented rules, which docs/memory.md lists."""
