"""Configs: composing, instantiating, saving and trusting them."""
