"""What every part runs on: meshes, compilation, checkpoints, metrics, configuration."""
