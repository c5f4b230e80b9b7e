"""Native code and its pure JAX or NumPy twins."""
