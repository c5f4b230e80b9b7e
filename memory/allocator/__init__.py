"""Allocation at run time: the plan with online placement, and the allocators to compare it with."""
