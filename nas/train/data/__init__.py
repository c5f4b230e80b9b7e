"""Labelled images: embedded digits, folders, tar shards and ArrayRecord files, by grain."""
