"""The planner of jaxlib_ext/csrc in plain Python: same steps, same numbers, for small traces.

Each file mirrors the C++ file of its name (planner_NAME.cc); the tests compare the two.
"""
