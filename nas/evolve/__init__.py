"""Searching a space for networks that are accurate and fast, and handing one over."""
