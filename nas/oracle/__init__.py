"""Latency of architectures: measured, estimated by a compiler, or bounded; block by block."""
