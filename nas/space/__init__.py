"""What a search may choose: spaces, architectures, exact costs. Imports no JAX."""
