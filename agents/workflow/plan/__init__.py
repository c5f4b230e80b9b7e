"""Plans of a workflow: their space, their cost, the search. Imports no JAX."""
