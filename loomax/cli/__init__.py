"""The command line: one file per verb, each nothing but arguments and a call."""
