"""Labelled images: embedded digits, drawn shapes, folders, tar shards, ArrayRecord files."""
