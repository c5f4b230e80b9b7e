"""Fixed networks, as extracted from a supernet or trained alone: no masks, no lanes."""
