"""Trials of sweeps."""
