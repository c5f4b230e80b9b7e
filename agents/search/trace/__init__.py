"""What happened in a run: events, figures, live lines."""
