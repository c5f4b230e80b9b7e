"""An OpenAI-compatible server of one engine."""
