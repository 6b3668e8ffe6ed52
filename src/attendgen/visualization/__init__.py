"""Figures of attention and reports."""
