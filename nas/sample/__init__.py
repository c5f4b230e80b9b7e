"""Which architectures a supernet trains on next. Imports no JAX."""
