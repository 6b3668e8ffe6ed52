"""Runs made from trained runs: ensembles, merged and rescaled models, imported checkpoints."""
