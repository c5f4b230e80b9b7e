"""The action server: tool calls that are shared, cached, limited and logged."""
