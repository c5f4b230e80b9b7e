"""What every room stands on: compiling, meshes, checkpoints, metrics, progress, files, configs."""
