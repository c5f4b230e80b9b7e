"""Edits of lowered programs, for those whose source cannot be changed."""
