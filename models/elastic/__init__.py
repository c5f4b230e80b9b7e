"""Elastic networks: one set of parameters, one compiled program, any subnet of a space."""
