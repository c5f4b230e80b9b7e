"""Speculation: when to draft, how much, when to trust a draft."""
