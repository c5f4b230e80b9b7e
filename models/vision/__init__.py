"""Vision stems: images to tokens."""
