"""What a program's memory looks like, and whether it has grown. Imports no JAX."""
