"""Lifetimes of buffers: one record type, traces of it, and the files that they come in."""
