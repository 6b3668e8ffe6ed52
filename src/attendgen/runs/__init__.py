"""Run directories, checkpoints and bundled models."""
