"""Tabletop manipulation by a named object: reach, pick, pick and place."""
