"""Encoders: an image in, a grid of features out."""
