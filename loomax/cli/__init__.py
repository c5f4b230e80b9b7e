"""The command line: one file per verb, nothing but arguments to calls."""
